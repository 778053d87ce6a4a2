"""A compile borrows: the user's model, random numbers and gradient mode are as before, and any mode will do."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fxc
from tests.e2e.nets import built, compiled, same
from tests.models.small import Inputs, build_small, small_inputs

X = small_inputs("conv_chain", 4, 1)


@pytest.mark.parametrize("target", ["ort-int8", "cpu-fp32"])
@pytest.mark.parametrize("data", [None, [X]])
def test_model_and_random_numbers_are_as_before(target: str, data: list[Inputs] | None) -> None:
    model, _ = build_small("conv_chain")
    model.train()
    model.get_submodule("features.1").eval()
    first, *_, last = model.parameters()
    first.grad = torch.ones_like(first)
    last.requires_grad_(False)
    tensors = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    identity = [id(p) for p in model.parameters()]
    state, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),
        random.getstate(),
    )  # type: ignore[index, union-attr]

    fxc.compile(model, target, example_inputs=X, calibration_data=data)

    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index, arg-type]
    assert random.getstate() == python_state
    assert [m.training for m in model.modules()] == flags
    assert [id(p) for p in model.parameters()] == identity
    assert all(torch.equal(v, tensors[k]) for k, v in model.state_dict().items())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert [p.requires_grad for p in model.parameters()] == [True] * (len(identity) - 1) + [False]
    assert torch.is_grad_enabled()


@contextlib.contextmanager
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, float64_by_default])
@pytest.mark.parametrize("data", [None, [X]])
def test_any_mode_gives_the_same_artifact(mode: Any, data: list[Inputs] | None) -> None:
    model, _ = built("conv_chain")
    plain = fxc.compile(model, "ort-int8", example_inputs=X, calibration_data=data)
    with mode():
        made = fxc.compile(model, "ort-int8", example_inputs=X, calibration_data=data)
        assert same(made(*X), plain(*X))
    assert made.manifest["files"] == plain.manifest["files"]


def test_a_model_made_in_inference_mode() -> None:
    with torch.inference_mode():
        model, x = build_small("conv_chain")
    artifact = fxc.compile(model, "ort-int8", example_inputs=x)
    assert "synthesised" in artifact.report["calibration"]["said"]


def test_inputs_that_want_gradients() -> None:
    x = X[0].clone().requires_grad_()
    artifact = fxc.compile(built("conv_chain")[0], "ort-int8", example_inputs=(x,), calibration_data=[x])
    assert not artifact(x).requires_grad


def test_memory_layout_does_not_matter() -> None:
    artifact = compiled("conv_chain", "cpu-int8")
    answer = artifact(*X)
    assert same(artifact(X[0].to(memory_format=torch.channels_last)), answer)
    model = build_small("conv_chain")[0].to(memory_format=torch.channels_last)
    other = fxc.compile(model, "cpu-int8", example_inputs=X, calibration_data=[X])
    assert same(
        other(*X),
        fxc.compile(built("conv_chain")[0], "cpu-int8", example_inputs=X, calibration_data=[X])(*X),
    )


def test_every_kind_of_calibration_data() -> None:
    images = torch.cat([small_inputs("conv_chain", 2, i)[0] for i in range(4)])
    wanted = compiled(calibration_data=[images])
    assert wanted.report["calibration"] == {"source": "data", "said": "calibration data", "images": 8}
    loader = DataLoader(TensorDataset(images), batch_size=3)
    forms: list[Any] = [
        images,  # one tensor is one batch, not eight images without a batch axis
        {"x": images},
        [(images,)],
        [[images]],
        [{"x": images}],
        (part for part in images.split(2)),
        loader,
        iter(loader),
    ]
    for form in forms:
        artifact = compiled(calibration_data=form)
        assert artifact.report["calibration"] == wanted.report["calibration"]
        assert (artifact.path / "model.onnx").read_bytes() == (wanted.path / "model.onnx").read_bytes()


class Structured(torch.nn.Module):
    """Nested, keyword and constant arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, pair: list[Any], count: int, *, gain: torch.Tensor, flip: bool = False) -> Any:
        y = (self.conv(pair[0]) + self.conv(pair[1]["x"])) * gain * count
        return -y if flip else y


def test_structured_arguments_with_and_without_data() -> None:
    model, gain = Structured().eval(), torch.full((1, 4, 1, 1), 0.5)
    args, named = ([X[0], {"x": X[0] + 1}], 3), {"gain": gain.expand(4, 4, 1, 1).clone(), "flip": True}
    words: dict[str, Any] = {"example_inputs": args, "example_kwargs": named}
    wanted = model(*args, **named).detach()
    flat = (X[0], X[0] + 1, named["gain"])
    for data in (None, [flat]):
        answer = fxc.compile(model, "ort-int8", calibration_data=data, **words)(*args, **named)
        assert float((answer - wanted).norm() / wanted.norm()) < 0.1
    artifact = fxc.compile(model, "ort-fp32", **words)
    with pytest.raises(fxc.FxcError, match="argument flip was fixed to True at capture, got False"):
        artifact(*args, **{**named, "flip": False})
    with pytest.raises(fxc.FxcError, match="argument count was fixed to 3"):
        artifact(args[0], gain, **named)


def test_an_input_that_no_batch_norm_sees() -> None:
    report = compiled("multi_io", calibration_data=None).report
    assert "1 batch norms" in report["calibration"]["said"]
    assert all(row["file_db"] > 15 for row in report["accuracy"]["outputs"])


def test_without_data_the_report_says_where_ranges_come_from() -> None:
    said = compiled("conv_chain", calibration_data=None).report["calibration"]["said"]
    assert "images synthesised" in said
    assert "3 batch norms" in said
    said = compiled("transformer", calibration_data=None).report["calibration"]["said"]
    assert "no batch norms" in said
    assert "seeded images" in said


def test_without_example_inputs_the_report_says_which_were_taken() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU()).eval()
    notes = fxc.compile(model, "ort-int8").report["notes"]
    assert any("example input guessed: [1, 3, 224, 224]" in n["text"] for n in notes)
    model.example_input_array = torch.zeros(1, 3, 32, 32)  # type: ignore[assignment]
    artifact = fxc.compile(model, "ort-int8")
    assert any("example_input_array" in n["text"] for n in artifact.report["notes"])
    assert artifact(torch.zeros(5, 3, 32, 32)).shape == (5, 4, 8, 8)


def test_a_program_and_its_sources_give_the_same_file() -> None:
    model, x = built("conv_chain")
    example = (x[0].clone(),)
    words = {"calibration_data": [X]}
    wanted = fxc.compile(model, "ort-int8", example_inputs=example, **words)
    program = fxc.capture(model, example)
    assert fxc.compile(program, "ort-int8", **words).manifest["files"] == wanted.manifest["files"]
    renamed = fxc.compile(
        program, "ort-int8", name="other", example_inputs=small_inputs("conv_chain", 1), **words
    )
    assert renamed.name == "other"
    shapes = {"x": {0: torch.export.Dim.DYNAMIC}}
    exported = torch.export.export(model, example, dynamic_shapes=shapes)
    assert same(fxc.compile(exported, "ort-int8", **words)(*X), renamed(*X))
