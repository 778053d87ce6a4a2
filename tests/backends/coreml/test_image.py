"""A Core ML model whose input is an image."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.coreml.package import open_package
from fxc.passes.image_input import ImageInput

MEAN, STD = [0.48, 0.45, 0.40], [0.23, 0.22, 0.21]


def pixels(count: int = 4) -> Tensor:
    small = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return torch.from_numpy(small.repeat(4, 2).repeat(4, 3))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()).eval()


def compiled(model: nn.Module, **words: Any) -> fxc.Artifact:
    return fxc.compile(model, "iphone-fp32", calibration_data=pixels(), **words)


@pytest.mark.parametrize(("order", "layout"), [("rgb", "RGB"), ("bgr", "BGR")])
def test_the_input_is_an_image_in_that_order(order: str, layout: str) -> None:
    decoded = ImageInput("rgb", tuple(MEAN), tuple(STD)).decode(pixels())
    made = compiled(
        net(), example_inputs=decoded[:1], image_input=order, preprocessing={"mean": MEAN, "std": STD}
    )
    (described,) = open_package(made.model).spec.description.input
    kind = described.type.imageType
    assert (kind.width, kind.height) == (16, 16)
    assert kind.ColorSpace.Name(kind.colorSpace) == layout
    handed = pixels() if order == "rgb" else pixels().flip(1).contiguous()
    with torch.no_grad():
        torch.testing.assert_close(made(handed), net()(decoded), rtol=1e-3, atol=1e-4)
    # Pixels as floats are the same image; floats elsewhere stay floats.
    (floats,) = made.runner()([handed.float().numpy()])
    np.testing.assert_array_equal(floats, made(handed).numpy())


def test_a_grey_image() -> None:
    model = nn.Conv2d(1, 2, 3).eval()
    grey = pixels()[:, :1].contiguous()
    made = fxc.compile(
        model,
        "iphone-fp32",
        example_inputs=grey[:1].float(),
        calibration_data=grey,
        image_input="gray",
        preprocessing={"mean": [0.5], "std": [0.25]},
    )
    (described,) = open_package(made.model).spec.description.input
    assert described.type.imageType.ColorSpace.Name(described.type.imageType.colorSpace) == "GRAYSCALE"
    with torch.no_grad():
        want = model((grey / 255 - 0.5) / 0.25)
    torch.testing.assert_close(made(grey), want, rtol=1e-3, atol=1e-4)


class OwnBytes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 2


def test_bytes_without_an_order_of_channels_are_refused() -> None:
    with pytest.raises(fxc.FxcError, match="cannot take layer x") as refused:
        compiled(OwnBytes(), example_inputs=pixels(1))
    assert "bytes as an image only" in str(refused.value)
