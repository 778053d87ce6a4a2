"""A compile whose result takes the bytes of an image; the model is judged by PyTorch on the normalised image."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.compiler.errors import CalibrationError, InputError, UsageError
from tests.e2e.nets import sqnr

MEAN, STD = [0.48, 0.45, 0.40], [0.23, 0.22, 0.21]
HOW: dict[str, Any] = {"mean": MEAN, "std": STD}


def pixels(count: int = 8, seed: int = 0) -> Tensor:
    """RGB images with areas of one colour."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return torch.from_numpy(small.repeat(4, 2).repeat(4, 3))


def normalised(image: Tensor) -> Tensor:
    return (image / 255 - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(STD).reshape(1, 3, 1, 1)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()]
    net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))
    for _ in range(20):
        net(normalised(pixels()))
    return net.eval()


def compiled(model: nn.Module, target: str, **words: Any) -> fxc.Artifact:
    given: dict[str, Any] = {
        "image_input": "bgr",
        "preprocessing": HOW,
        "example_inputs": normalised(pixels(1)),
    }
    return fxc.compile(model, target, **{**given, "calibration_data": normalised(pixels()), **words})


@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8", "cpu-fp32", "jetson-int8"])
def test_the_artifact_takes_bytes_in_the_order_that_was_asked_for(model: nn.Module, target: str) -> None:
    made, image = compiled(model, target), pixels(5, seed=1)
    with torch.no_grad():
        want = model(normalised(image))
    enough = 25 if made.target.quantized else 100
    assert sqnr(want, made(image.flip(1).contiguous())) > enough
    assert sqnr(want, made(image)) < 20
    (entry,) = made.manifest["inputs"]
    assert (entry["dtype"], entry["layout"], entry["shape"]) == ("uint8", "NCHW", ["batch", 3, 16, 16])
    assert made.manifest["preprocessing"] == {**HOW, "image_input": "bgr"}
    with pytest.raises(InputError, match="float32, expected uint8"):
        made(normalised(image))


def test_the_file_itself_takes_bytes(model: nn.Module) -> None:
    made = compiled(model, "jetson-int8")
    graph = onnx.load(made.model).graph
    assert [i.type.tensor_type.elem_type for i in graph.input] == [onnx.TensorProto.UINT8]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_calibration_data_may_be_bytes_too(model: nn.Module, order: str) -> None:
    image = pixels() if order == "rgb" else pixels().flip(1).contiguous()
    one = compiled(model, "ort-int8", image_input=order)
    other = compiled(model, "ort-int8", image_input=order, calibration_data=[image[:3], image[3:]])
    assert one.model.read_bytes() == other.model.read_bytes()


def test_without_data_images_are_synthesised_in_bytes(model: nn.Module) -> None:
    made, image = compiled(model, "ort-int8", calibration_data=None), pixels(4, seed=2)
    with torch.no_grad():
        assert sqnr(model(normalised(image)), made(image.flip(1).contiguous())) > 20
    assert made.golden.inputs[0].dtype == torch.uint8


def test_a_saved_bundle_takes_bytes(model: nn.Module, tmp_path: Path) -> None:
    made = compiled(model, "ort-int8")
    made.save(tmp_path / "bundle")
    image = pixels(2, seed=3)
    assert torch.equal(fxc.load(tmp_path / "bundle")(image), made(image))


def test_statistics_are_of_the_same_input(model: nn.Module) -> None:
    words: dict[str, Any] = {"example_inputs": normalised(pixels(1)), "targets": ["ort-int8"]}
    found = fxc.calibrate(model, normalised(pixels()), image_input="bgr", preprocessing=HOW, **words)
    assert found.preprocessing == {**HOW, "image_input": "bgr"}
    made = compiled(model, "ort-int8", calibration_data=found)
    assert made.model.read_bytes() == compiled(model, "ort-int8").model.read_bytes()
    with pytest.raises(CalibrationError, match="another program"):
        compiled(model, "ort-int8", calibration_data=found, image_input=None)


def test_what_was_recorded_for_another_bundle_is_not_claimed(model: nn.Module) -> None:
    recorded = {**HOW, "image_input": "bgr"}
    made = compiled(model, "ort-int8", image_input=None, preprocessing=recorded)
    assert made.manifest["preprocessing"] == HOW
    assert made.manifest["inputs"][0]["dtype"] == "float32"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"preprocessing": None}, "needs to know how an image is normalised"),
        ({"preprocessing": {"mean": MEAN}}, "needs to know how an image is normalised"),
        ({"preprocessing": {"mean": 0.5, "std": STD}}, "mean takes one number per channel, got 0.5"),
        ({"preprocessing": {"mean": [0.5, float("nan"), 0.5], "std": STD}}, "finite"),
        ({"preprocessing": [MEAN, STD]}, "preprocessing takes a mapping, got list"),
        ({"image_input": "yuv"}, "'yuv' is no order of channels"),
        ({"image_input": True}, "True is no order of channels"),
        ({"image_input": "gray", "preprocessing": {"mean": [0.5], "std": [0.5]}}, r"float32 \[N, 1, H, W\]"),
    ],
)
def test_what_cannot_be_asked_for(model: nn.Module, words: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        compiled(model, "ort-int8", **words)


def test_a_device_without_bytes(model: nn.Module) -> None:
    with pytest.raises(fxc.FxcError, match="jetson-int8 cannot take layer") as refused:
        compiled(model, "jetson-int8", jetpack="5.0")
    assert "uint8 inputs from 8.5 on" in str(refused.value)
    compiled(model, "jetson-int8", jetpack="6.2")
