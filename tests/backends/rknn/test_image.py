"""The normalisation of an image in the .rknn file: what the graph loses, and what the simulator answers to bytes."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc import catalogue
from fxc.backends.rknn.image import detached
from fxc.backends.rknn.toolchain import RKNN
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.toolchain.environment import environment, status
from fxc.passes.image_input import ImageInput
from tests.passes.checks import Fn, assert_same, canonical

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(count: int = 4) -> Tensor:
    small = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return torch.from_numpy(small.repeat(4, 2).repeat(4, 3))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()


def taking_bytes(model: nn.Module, order: str = "rgb") -> Program:
    step = ImageInput(order, MEAN, STD)
    return run_pipeline(canonical(model, step.decode(pixels())), (step,))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_head_comes_off(order: str) -> None:
    bare, found = detached(taking_bytes(net(), order))
    assert found is not None
    turn = -1 if order == "bgr" else 1
    np.testing.assert_allclose(found.mean, [255 * m for m in MEAN[::turn]], rtol=1e-6)
    np.testing.assert_allclose(found.std, [255 * s for s in STD[::turn]], rtol=1e-6)
    assert [s.dtype for s in bare.inputs] == ["float32"]
    assert_same(bare, canonical(net(), torch.randn(4, 3, 16, 16)))


def bytes_by_hand(m: Any, x: Tensor) -> Tensor:
    return m.conv(x.to(torch.float32) * (1 / 255) - m.mean)


BY_HAND = Fn(bytes_by_hand, conv=nn.Conv2d(3, 4, 1), mean=torch.rand(1, 3, 1, 1))


def test_a_models_own_normalisation_comes_off_too() -> None:
    program = canonical(BY_HAND, pixels())
    bare, found = detached(program)
    assert found is not None
    x = pixels()
    mean, std = (torch.tensor(c, dtype=torch.float32).reshape(1, 3, 1, 1) for c in (found.mean, found.std))
    torch.testing.assert_close(bare((x - mean) / std), program(x))


OTHERS = {
    "floats": (Fn(lambda m, x: x * 2), torch.randn(2, 3, 4, 4)),
    "bytes that are no image": (Fn(lambda m, x: x.float() * 2), torch.ones(2, 3, dtype=torch.uint8)),
    "bytes that are read twice": (Fn(lambda m, x: x.float() * 2 + x), pixels()),
    "halves": (Fn(lambda m, x: x.half() * 2), pixels()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_inputs_stay_as_they_are(name: str) -> None:
    program = canonical(OTHERS[name][0], OTHERS[name][1])
    bare, found = detached(program)
    assert found is None
    assert bare is program


def test_a_channel_that_is_multiplied_away_stays_in_the_graph() -> None:
    program = canonical(
        Fn(lambda m, x: x.float() * m.w, w=torch.tensor([1.0, 0, 1]).reshape(1, 3, 1, 1)), pixels()
    )
    assert detached(program)[1] is None


def compiled(
    target: str, order: str, monkeypatch: pytest.MonkeyPatch | None = None, cache: Any = None
) -> fxc.Artifact:
    if monkeypatch is not None:
        monkeypatch.setenv("FXC_CACHE", str(cache))
    step = ImageInput(order, MEAN, STD)
    how = {"mean": list(MEAN), "std": list(STD)}
    data = pixels(8)
    return fxc.compile(
        net(),
        target,
        example_inputs=step.decode(data[:1]),
        calibration_data=data,
        image_input=order,
        preprocessing=how,
    )


@pytest.mark.parametrize("target", ["rk3588-int8", "rk3588-fp16", "rk3588-int16"])
def test_the_toolkit_is_asked_to_normalise(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    artifact = compiled(target, "bgr", monkeypatch, tmp_path)
    request = json.loads((artifact.path / "build_rknn.json").read_text())
    assert request["model"] == "model.toolkit.onnx"
    np.testing.assert_allclose(request["config"]["mean_values"], [[255 * m for m in MEAN[::-1]]], rtol=1e-6)
    np.testing.assert_allclose(request["config"]["std_values"], [[255 * s for s in STD[::-1]]], rtol=1e-6)
    kinds = [onnx.load(artifact.path / name).graph.input[0] for name in ("model.onnx", "model.toolkit.onnx")]
    assert [k.type.tensor_type.elem_type for k in kinds] == [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert any("board takes bytes" in note for note in artifact.manifest["notes"])
    if target == "rk3588-int16":
        sample = np.load(artifact.path / "sample_0.npy", allow_pickle=False)
        assert sample.dtype == np.uint8
        assert sample.max() > 200


@pytest.mark.slow
@pytest.mark.skipif(status(environment(RKNN)).state != "ready", reason=f"needs RKNN-Toolkit2: {RKNN.command}")
@pytest.mark.parametrize(
    ("target", "order"), [("rk3588-int8", "rgb"), ("rk3588-int8", "bgr"), ("rk3588-int16", "bgr")]
)
def test_the_simulator_takes_bytes(target: str, order: str) -> None:
    artifact = compiled(target, order)
    rows = {row.get("file", ""): row for row in artifact.report["accuracy"]["outputs"]}
    least = 25 if target == "rk3588-int8" else 40
    assert rows["model.rknn"]["file_db"] > least
    image = pixels(2)
    runner = catalogue.room(artifact.target).load(artifact.model.with_name("model.rknn"), artifact.target)
    (simulated,), (meant,) = runner([image.numpy()]), artifact.runner()([image.numpy()])
    if target == "rk3588-int8":
        step = np.diff(np.unique(meant))
        assert (np.abs(simulated - meant) < step[step > 1e-6].min() / 2).mean() >= 0.999
