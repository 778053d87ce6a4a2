"""What lint says about RKNN before the toolkit starts: each limit one step inside and one step outside."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxc
from tests.conformance.case import Fn

X = torch.randn(1, 3, 70, 70)

REFUSED = {
    "kernel 33": (nn.Conv2d(3, 4, 33), X),
    "stride 8": (nn.Conv2d(3, 4, 9, stride=8), X),
    "padding 16": (nn.Conv2d(3, 4, 3, padding=16), X),
    "dilation 32": (nn.Conv2d(3, 4, 3, dilation=32), X),
    "layer_norm over the last dimension only": (nn.LayerNorm((70, 70)), X),
    "upsample_bicubic2d": (Fn(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")), X),
    "max_pool3d": (nn.MaxPool3d(2), X[:, None]),
}
TAKEN = {
    "kernel 31": (nn.Conv2d(3, 4, 31), X),
    "stride 7": (nn.Conv2d(3, 4, 9, stride=7), X),
    "padding 15": (nn.Conv2d(3, 4, 3, padding=15), X),
    "dilation 31": (nn.Conv2d(3, 4, 3, dilation=31), X),
    "layer_norm": (nn.LayerNorm(70), X),
    "bilinear": (Fn(lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")), X),
    # Rewritten without the stride: an image's patches.
    "patches": (nn.Conv2d(3, 4, 14, stride=14), X),
    "transposed with groups": (nn.ConvTranspose2d(3, 3, 2, 2, groups=3), X),
}


@pytest.mark.parametrize("name", REFUSED)
def test_outside(name: str) -> None:
    model, x = REFUSED[name]
    (found,) = fxc.lint(model.eval(), "rk3588-int8", example_inputs=(x,))
    assert found.fatal
    assert name in found.rule
    assert found.fix
    assert found.layer


@pytest.mark.parametrize("name", TAKEN)
def test_inside(name: str) -> None:
    model, x = TAKEN[name]
    assert fxc.lint(model.eval(), "rk3588-int8", example_inputs=(x,)) == []
