"""A stranger's operator, rule, targets and room, given with ``extensions=[…]``, against PyTorch eager."""

from pathlib import Path
from typing import Any

import acme_fxc
import acme_fxc.ops
import onnx
import pytest
import torch
from acme_fxc import EXTENSION
from acme_fxc.lowering import LOWERINGS
from acme_fxc.ops import AcmeNet
from acme_fxc.rules import DoubleFlip
from torch import Tensor, nn

import fxc
from fxc import Extension, catalogue
from fxc.compiler.artifact import Artifact
from fxc.compiler.errors import ArtifactError, LegalityError, UsageError
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from tests.models.metrics import sqnr_db

FLIP = torch.ops.acme.flip_channels.default
GATE = torch.ops.acme.soft_gate.default
RULE = "extension{of=acme,tolerance=0.0}"


def compiled(net: nn.Module, target: str, image: Tensor, **words: Any) -> Artifact:
    generator = torch.Generator().manual_seed(2)
    data = [torch.randn(4, 3, 16, 16, generator=generator) for _ in range(3)]
    words = {"extensions": [EXTENSION], "calibration_data": data, **words}
    return fxc.compile(net, target, example_inputs=image, **words)


def eager(net: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return net(image)


def calls(program: Program, target: Any) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if node.target is target]


@pytest.mark.parametrize("target", ["cpu-fp32", "ort-fp32", "acme-fp32"])
def test_a_float_target(target: str, net: AcmeNet, image: Tensor, tmp_path: Path) -> None:
    artifact = compiled(net, target, image)
    wanted = eager(net, image)
    torch.testing.assert_close(artifact(image), wanted, rtol=1e-4, atol=1e-5)
    (done,) = [p for p in artifact.report["passes"] if p["pass"] == RULE]
    assert done["modified"]
    assert len(calls(artifact.program, FLIP)) == len(calls(artifact.program, GATE)) == 1
    nodes = [n.name for n in onnx.load(artifact.model).graph.node]
    assert "flip_channels_2" in nodes
    assert "flip_channels" not in nodes

    saved = artifact.save(tmp_path / "bundle")
    loaded = fxc.load(saved, extensions=[EXTENSION])
    assert torch.equal(loaded(image), artifact(image))
    assert loaded.target == catalogue.with_extensions(EXTENSION).target(target)
    torch.testing.assert_close(loaded.program(image), wanted, rtol=1e-4, atol=1e-5)


def test_a_room_of_its_own_says_what_ran_the_file(net: AcmeNet, image: Tensor) -> None:
    artifact = compiled(net, "acme-fp32", image)
    assert artifact.model.name == "acme.onnx"
    assert "reference evaluator" in str(artifact.report)


def test_a_bundle_needs_its_extension(net: AcmeNet, image: Tensor, tmp_path: Path) -> None:
    loaded = fxc.load(compiled(net, "acme-fp32", image).save(tmp_path / "bundle"))
    with pytest.raises(UsageError, match="unknown target 'acme-fp32'") as unknown:
        loaded(image)
    assert "extensions=[…]" in str(unknown.value)
    with pytest.raises(
        ArtifactError, match=r"acme\.soft_gate\.default belongs to another package"
    ) as refused:
        loaded.program  # noqa: B018
    assert "fxc.load(path, extensions=[…])" in str(refused.value)
    assert loaded.load_program(namespaces=frozenset({"aten", "fxc", "acme"})).name == "AcmeNet"


def test_operators_without_a_lowering_may_be_in_a_bundles_program(
    net: AcmeNet, image: Tensor, tmp_path: Path
) -> None:
    saved = compiled(net, "ort-fp32", image).save(tmp_path / "bundle")
    loaded = fxc.load(saved, extensions=[Extension("e", operators=(FLIP, GATE))])
    torch.testing.assert_close(loaded.program(image), eager(net, image), rtol=1e-4, atol=1e-5)
    with pytest.raises(ArtifactError, match=r"acme\.soft_gate\.default belongs to another package"):
        fxc.load(saved, extensions=[Extension("e", operators=(FLIP,))]).program  # noqa: B018


def test_its_own_scheme_decides_about_its_own_operators(net: AcmeNet, image: Tensor, tmp_path: Path) -> None:
    artifact = compiled(net, "acme-int8", image)
    assert sqnr_db(eager(net, image), artifact(image)) > 20
    (flip,) = calls(artifact.program, FLIP)
    source, (reader,) = flip.args[0], flip.users
    assert source.target is DEQUANTIZE_TENSOR
    assert reader.target is QUANTIZE_TENSOR
    assert source.args[1:3] == reader.args[1:3]
    reasons = {layer["layer"]: layer["reason"] for layer in artifact.report["float_tensors"]}
    assert reasons["soft_gate"] == "Acme's gate unit computes in float"
    integer = {k.layer: k.integer for k in artifact.runner().kernels()}
    assert all(integer[name] for name in ("stem", "body", "tail"))
    assert not integer["head"]
    loaded = fxc.load(artifact.save(tmp_path / "bundle"), extensions=EXTENSION)
    assert torch.equal(loaded(image), artifact(image))
    assert torch.equal(loaded.program(image), artifact.program(image))


def test_a_target_of_fxc_keeps_a_strangers_operator_in_float(net: AcmeNet, image: Tensor) -> None:
    artifact = compiled(net, "cpu-int8", image)
    assert sqnr_db(eager(net, image), artifact(image)) > 20
    reasons = {layer["layer"]: layer["reason"] for layer in artifact.report["float_tensors"]}
    assert "acme.soft_gate computes in float on this target" in reasons["soft_gate"]


def test_several_targets_of_both(net: AcmeNet, image: Tensor, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    data = [torch.randn(4, 3, 16, 16, generator=generator)]
    names = ["ort-int8", "acme-int8", "acme-fp32"]
    artifacts = fxc.compile(net, names, example_inputs=image, calibration_data=data, extensions=[EXTENSION])
    assert list(artifacts) == names
    loaded = fxc.load(artifacts.save(tmp_path / "all"), extensions=[EXTENSION])
    for name in names:
        assert torch.equal(loaded[name](image), artifacts[name](image))


def test_statistics_serve_a_strangers_target(net: AcmeNet, image: Tensor) -> None:
    generator = torch.Generator().manual_seed(2)
    data = [torch.randn(4, 3, 16, 16, generator=generator) for _ in range(3)]
    found = fxc.calibrate(net, data, example_inputs=image, extensions=[EXTENSION])
    artifact = compiled(net, "acme-int8", image, calibration_data=found)
    assert sqnr_db(eager(net, image), artifact(image)) > 20


def test_lint_asks_the_extension_too(net: AcmeNet, image: Tensor) -> None:
    layers = {v.layer for v in fxc.lint(net, "ort-fp32", example_inputs=image)}
    assert {"soft_gate", "flip_channels_2"} <= layers
    for target in ("ort-fp32", "acme-fp32"):
        assert fxc.lint(net, target, example_inputs=image, extensions=[EXTENSION]) == []


def test_a_built_in_lowering_is_overridden_on_request(net: AcmeNet, image: Tensor) -> None:
    def relu(g: Any, self: Any) -> Any:
        return g.op("Max", self, g.constant(0.0))

    extension = Extension("e", lowerings=LOWERINGS, overrides={torch.ops.aten.relu.default: relu})
    artifact = compiled(net, "ort-fp32", image, extensions=[extension])
    kinds = [n.op_type for n in onnx.load(artifact.model).graph.node]
    assert kinds.count("Max") == 2
    assert "Relu" not in kinds
    torch.testing.assert_close(artifact(image), eager(net, image), rtol=1e-4, atol=1e-5)


def test_a_rule_that_declines_says_why(image: Tensor) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            once = acme_fxc.ops.flip_channels(x)
            return acme_fxc.ops.flip_channels(once) * once

    artifact = compiled(Twice().eval(), "ort-fp32", image)
    texts = [note["text"] for note in artifact.report["notes"] if note["by"] == "extension:acme"]
    assert texts == ["double_flip declined: the inner flip has another reader"]
    torch.testing.assert_close(artifact(image), eager(Twice(), image))


def test_a_later_rule_sees_what_an_earlier_one_made(image: Tensor) -> None:
    class Named(DoubleFlip):
        name = "second"

    class Four(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(4):
                x = acme_fxc.ops.flip_channels(x)
            return x + 1

    extension = Extension("e", lowerings=LOWERINGS, rules=(DoubleFlip(), Named()), tolerance=0.0)
    artifact = compiled(Four().eval(), "ort-fp32", image, extensions=[extension])
    assert calls(artifact.program, FLIP) == []
    torch.testing.assert_close(artifact(image), image + 1)


def test_a_pipeline_reads_back_from_its_text() -> None:
    book = catalogue.with_extensions(EXTENSION)
    (step,) = book.rules
    (read,) = book.pipeline(step.text())
    assert step.text() == RULE
    assert read == step
    assert [type(rule) for rule in read.rules] == [DoubleFlip]


@torch.library.custom_op("acme_test::conv2d", mutates_args=())
def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Not a convolution."""
    return x * weight.sum()


@conv2d.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_a_namesake_of_an_aten_operator_is_not_taken_for_it(image: Tensor) -> None:
    class Namesake(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(conv2d(x, self.weight))

    def lowering(g: Any, x: Any, weight: Any) -> Any:
        return g.op("Mul", x, g.op("ReduceSum", weight, keepdims=0))

    extension = Extension("e", lowerings={torch.ops.acme_test.conv2d.default: lowering})
    artifact = compiled(Namesake().eval(), "cpu-int8", image, extensions=[extension])
    (node,) = [n for n in artifact.program.graph.nodes if op_name(n) == "acme_test.conv2d"]
    assert label_of(node) == "conv2d"
    assert node.args[1].op == "get_attr"
    torch.testing.assert_close(artifact(image), eager(Namesake(), image), rtol=1e-4, atol=1e-4)


@torch.library.custom_op("acme_test::pair", mutates_args=())
def pair(x: Tensor, sizes: list[int], mode: str = "sum") -> tuple[Tensor, Tensor]:
    """Twice ``x``, and its sum over ``sizes``."""
    return 2 * x, x.sum(sizes)


@pair.register_fake
def _(x: Tensor, sizes: list[int], mode: str = "sum") -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[:2])


class Pair(torch.nn.Module):
    """Both results of ``pair`` together."""

    def forward(self, x: Tensor) -> Tensor:
        twice, total = pair(x, [2, 3])
        return twice + total[:, :, None, None]


def test_an_operator_with_two_results(image: Tensor, tmp_path: Path) -> None:
    def both(g: Any, x: Any, sizes: Any, mode: Any) -> Any:
        assert (sizes, mode) == ([2, 3], "sum")
        return g.op("Add", x, x), g.op("ReduceSum", x, g.ints(sizes), keepdims=0)

    def one(g: Any, x: Any, sizes: Any) -> Any:
        return g.op("Add", x, x)

    overload = torch.ops.acme_test.pair.default
    good, bad = Extension("good", lowerings={overload: both}), Extension("bad", lowerings={overload: one})
    artifact = fxc.compile(Pair(), "ort-fp32", example_inputs=image, extensions=[good])
    torch.testing.assert_close(artifact(image), Pair()(image), rtol=1e-4, atol=1e-4)
    loaded = fxc.load(artifact.save(tmp_path / "bundle"), extensions=[good])
    torch.testing.assert_close(loaded.program(image), Pair()(image))
    with pytest.raises(
        LegalityError, match=r"lowering of acme_test\.pair\.default by an extension failed"
    ) as caught:
        fxc.compile(Pair(), "ort-fp32", example_inputs=image, extensions=[bad])
    assert "not a tuple" in str(caught.value)
