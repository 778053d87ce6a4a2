"""A program written and read again is the same program, to the byte and to the number."""

from __future__ import annotations

import json
from collections import OrderedDict, namedtuple
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxc
from fxc.compiler.errors import ArtifactError
from fxc.compiler.origin import origin_of
from fxc.compiler.program import InputSpec, attributes_used
from fxc.compiler.serialize import load_program, save_program
from fxc.compiler.serialize_values import decode_argument, decode_tree, encode_argument, encode_tree
from fxc.compiler.text import program_text, structural_hash, value_text
from tests.compiler.saved_programs import conv_program


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    program = conv_program()
    loaded = load_program(save_program(program, tmp_path / "p"))
    assert structural_hash(loaded) == structural_hash(program)
    assert [n.name for n in loaded.graph.nodes] == [n.name for n in program.graph.nodes]
    origins = [(origin_of(n), origin_of(m)) for n, m in zip(program.graph.nodes, loaded.graph.nodes)]
    assert all(a == b for a, b in origins)
    for name in ("name", "inputs", "outputs", "notes", "facts", "history", "in_spec", "out_spec"):
        assert getattr(loaded, name) == getattr(program, name), name
    norm, other = program.folded_norms["layer1.0.conv1"], loaded.folded_norms["layer1.0.conv1"]
    assert all(torch.equal(getattr(norm, p), getattr(other, p)) for p in ("mean", "var", "weight", "bias"))
    assert torch.equal(loaded.example_inputs[0], program.example_inputs[0])


def test_loaded_program_computes_the_same_for_every_batch(tmp_path: Path) -> None:
    program = conv_program()
    loaded = load_program(save_program(program, tmp_path / "p"))
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8)
        expected, found = program(x), loaded(x)
        assert list(found) == ["first", "more"]
        assert torch.equal(found["first"], expected["first"])
        assert torch.equal(found["more"][0], expected["more"][0])


@pytest.mark.parametrize("batch", ["batch", 2])
def test_values_are_rebuilt(tmp_path: Path, batch: int | str) -> None:
    program = conv_program(batch)
    loaded = load_program(save_program(program, tmp_path / "p"))

    def texts(p: object) -> list[str]:
        found = [value_text(n.meta["val"]) for n in p.graph.nodes if n.op != "output"]  # type: ignore[attr-defined]
        symbol = next(iter(p.graph.nodes)).meta["val"].shape[0]  # type: ignore[attr-defined]
        return [t.replace(str(symbol), "N") if isinstance(symbol, torch.SymInt) else t for t in found]

    assert texts(loaded) == texts(program)
    assert isinstance(next(iter(loaded.graph.nodes)).meta["val"].shape[0], torch.SymInt) == (batch == "batch")


def test_tied_parameters_stay_one_and_train(tmp_path: Path) -> None:
    loaded = load_program(save_program(conv_program(), tmp_path / "p"))
    assert loaded.tensor("head.weight") is loaded.tensor("tied.weight")
    assert isinstance(loaded.tensor("head.weight"), nn.Parameter)
    module = loaded.module()
    assert [name for name, _ in module.named_parameters()] == ["head.weight"]
    module(torch.randn(2, 3, 8, 8))["first"].sum().backward()
    assert loaded.tensor("head.weight").grad is not None


def test_two_saves_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = save_program(conv_program(), tmp_path / "a"), save_program(conv_program(), tmp_path / "b")
    again = save_program(load_program(one), tmp_path / "c")
    for name in ("program.json", "program.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 1.0, 0.1, -0.0, float("inf"), float("-inf"), "tanh", [1, [2.5, None]], (1, (2,)),
     slice(0, None, 2), torch.float32, torch.channels_last, torch.device("cpu"), torch.strided],
)  # fmt: skip
def test_arguments_round_trip(value: object) -> None:
    coded = json.loads(json.dumps(encode_argument(value), allow_nan=False))
    assert repr(decode_argument(coded, {})) == repr(value)


def test_nan_round_trips() -> None:
    assert repr(decode_argument(encode_argument(float("nan")), {})) == "nan"


@pytest.mark.parametrize("value", [1j, object(), torch.device("meta"), {"a": 1}, torch.ones(1)])
def test_other_arguments_are_refused(value: object) -> None:
    with pytest.raises(ArtifactError):
        encode_argument(value)


Point = namedtuple("Point", "x y")


def test_structures_round_trip_without_classes() -> None:
    for value in ((0, [0, {"b": 0, "a": (0,)}]), OrderedDict(z=0, a=[]), 0, (), {3: 0}):
        spec = pytree.tree_structure(value)
        assert decode_tree(json.loads(json.dumps(encode_tree(spec)))) == spec
    assert encode_tree(pytree.tree_structure(Point(0, 0))) == {"tuple": ["*", "*"]}


def test_a_constant_argument_keeps_its_value(tmp_path: Path) -> None:
    from dataclasses import replace

    program = conv_program()
    inputs = (*program.inputs, InputSpec("mode", (), "constant", "a/b'"))
    program = replace(program, inputs=inputs, in_spec=pytree.tree_structure(((0, 0), {})))
    assert load_program(save_program(program, tmp_path / "p")).inputs == inputs


@pytest.mark.parametrize("name", ["program.json", "program.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_damage_is_found_and_the_file_named(tmp_path: Path, name: str, damage: str) -> None:
    path = save_program(conv_program(), tmp_path / "p") / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
        path.write_bytes({"cut": data[: len(data) // 2], "flip": flipped, "empty": b""}[damage])
    with pytest.raises(ArtifactError) as caught:
        load_program(tmp_path / "p")
    assert name in str(caught.value)


def test_an_existing_program_is_kept_unless_forced(tmp_path: Path) -> None:
    path = save_program(conv_program(), tmp_path / "p")
    before = (path / "program.json").read_bytes()
    with pytest.raises(ArtifactError, match="already holds"):
        save_program(conv_program(2), path)
    assert (path / "program.json").read_bytes() == before
    save_program(conv_program(2), path, force=True)
    assert load_program(path).inputs[0].shape == (2, 3, 8, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


class Mixed(nn.Module):
    """Operators that the rebuilding of values treats in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
        y = nn.functional.hardswish(self.norm(self.conv(x))).clamp(0, 4).permute(0, 2, 3, 1).sigmoid()
        z = nn.functional.dropout(nn.functional.gelu(self.head(y)), 0.5, self.training) * y.shape[0]
        return [z > 0.5, (z * scale).to(torch.float16), y.reshape(y.shape[0] * 2, -1), z.argmax(-1) + 1]


@pytest.mark.parametrize("batch", [True, False])
def test_values_of_a_captured_model_are_those_of_export(tmp_path: Path, batch: bool) -> None:
    from fxc.compiler.capture import capture

    program = capture(Mixed().eval(), (torch.randn(2, 3, 9, 9), torch.randn(2, 1, 1, 4)), dynamic_batch=batch)
    loaded = load_program(save_program(program, tmp_path / "p"))
    assert program_text(loaded) == program_text(program)
    for node, other in zip(program.graph.nodes, loaded.graph.nodes):
        if isinstance(node.meta.get("val"), torch.Tensor):
            assert str(node.meta["val"].stride()) == str(other.meta["val"].stride()), node.name


class OddNames(nn.Module):
    """Names that Python takes for modules and no file may name as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.größe = nn.Linear(4, 4)
        self.odd = nn.ModuleDict(
            {"block1-0": nn.Linear(4, 4), 'say "x"\n': nn.Linear(4, 4), "a b/c": nn.Linear(4, 4)}
        )
        self.scale = nn.ParameterDict({"class": nn.Parameter(torch.rand(4))})

    def forward(self, x: Tensor) -> Tensor:
        x = self.größe(x)
        for layer in self.odd.values():
            x = layer(x).tanh()
        return x * self.scale["class"]


def test_any_name_of_a_module_can_be_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = OddNames().eval(), torch.randn(2, 4)
    program = fxc.capture(model, (x,))
    loaded = load_program(save_program(program, tmp_path / "p"))
    torch.testing.assert_close(loaded.run_flat(x), program.run_flat(x), rtol=0, atol=0)
    # Ordinary unusual names stay, so that a state dict still fits.
    assert {"odd.block1-0.weight", "odd.a b/c.bias"} <= set(attributes_used(loaded.graph_module))
    again = save_program(loaded, tmp_path / "again")
    for name in ("graph.json", "tensors.safetensors"):
        file = tmp_path / "p" / name
        if file.exists():
            assert file.read_bytes() == (again / name).read_bytes()


def test_a_float_compile_of_a_torchvision_model_with_dashes() -> None:
    model = torchvision.models.regnet_y_400mf().eval()
    artifact = fxc.compile(model, "ort-fp32", example_inputs=(torch.randn(1, 3, 64, 64),))
    assert "trunk_output.block1.block1-0.proj.0.weight" in attributes_used(artifact.program.graph_module)
