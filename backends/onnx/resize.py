"""Upsampling and sampling at given places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Symbolic, Tensor, Writer

aten = torch.ops.aten

_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
# PyTorch's "nearest-exact" takes floor((i + 0.5) / scale): half-pixel coordinates rounded up at ties.
_NEAREST_EXACT = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_ceil",
}


def resize(
    g: Writer, x: Tensor, sizes: list[int] | None, scales: list[float] | None, attributes: dict[str, Any]
) -> Tensor:
    """Resize of the trailing dimensions to ``sizes``, or by ``scales`` where those are what the model gave."""
    lead = len(x.shape) - len(sizes or scales or [])
    if scales:
        return g.op("Resize", x, None, g.constant([1.0] * lead + list(scales), np.float32), **attributes)
    if any(isinstance(s, Symbolic) for s in sizes or []):
        g.refuse("an upsampling to a dynamic size has no lowering")
    leading = [g.size(x, axis) for axis in range(lead)]
    return g.op("Resize", x, None, None, g.ints([*leading, *(sizes or [])]), **attributes)


def _linear(align_corners: bool, mode: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "coordinate_transformation_mode": "align_corners" if align_corners else "half_pixel",
        # PyTorch's bicubic kernel; ONNX's default differs in name only, but is written down to be sure.
        **({"cubic_coeff_a": -0.75} if mode == "cubic" else {}),
    }


def _nearest_vec(attributes: dict[str, Any]) -> Callable[..., Tensor]:
    def build(
        g: Writer, input: Tensor, output_size: list[int] | None, scale_factors: list[float] | None
    ) -> Tensor:
        return resize(g, input, output_size, scale_factors, attributes)

    return build


def _linear_vec(mode: str) -> Callable[..., Tensor]:
    def build(
        g: Writer,
        input: Tensor,
        output_size: list[int] | None,
        align_corners: bool,
        scale_factors: list[float] | None,
    ) -> Tensor:
        # With aligned corners the given scale plays no part, only the two sizes do.
        scales = None if align_corners else scale_factors
        sizes = output_size or [int(d) for d in g.shape[2:]]
        return resize(g, input, None if scales else sizes, scales, _linear(align_corners, mode))

    return build


def nearest2d(
    g: Writer, self: Tensor, output_size: list[int], scales_h: float | None, scales_w: float | None
) -> Tensor:
    return resize(g, self, output_size, _both(scales_h, scales_w), _NEAREST)


def _linear2d(mode: str) -> Callable[..., Tensor]:
    def build(
        g: Writer,
        self: Tensor,
        output_size: list[int],
        align_corners: bool,
        scales_h: float | None,
        scales_w: float | None,
    ) -> Tensor:
        scales = None if align_corners else _both(scales_h, scales_w)
        return resize(g, self, output_size, scales, _linear(align_corners, mode))

    return build


def _both(height: float | None, width: float | None) -> list[float] | None:
    return None if height is None or width is None else [height, width]


def grid_sampler(
    g: Writer,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> Tensor:
    g.need_opset(16, "GridSample")
    return g.op(
        "GridSample",
        input,
        grid,
        mode=("bilinear", "nearest", "bicubic")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(align_corners),
    )


LOWERINGS = lowerings(
    {
        aten.upsample_nearest1d.vec: _nearest_vec(_NEAREST),
        aten.upsample_nearest2d.vec: _nearest_vec(_NEAREST),
        aten.upsample_nearest3d.vec: _nearest_vec(_NEAREST),
        aten._upsample_nearest_exact1d.vec: _nearest_vec(_NEAREST_EXACT),
        aten._upsample_nearest_exact2d.vec: _nearest_vec(_NEAREST_EXACT),
        aten._upsample_nearest_exact3d.vec: _nearest_vec(_NEAREST_EXACT),
        aten.upsample_linear1d.vec: _linear_vec("linear"),
        aten.upsample_bilinear2d.vec: _linear_vec("linear"),
        aten.upsample_trilinear3d.vec: _linear_vec("linear"),
        aten.upsample_bicubic2d.vec: _linear_vec("cubic"),
        aten.upsample_nearest2d.default: nearest2d,
        aten.upsample_bilinear2d.default: _linear2d("linear"),
        aten.upsample_bicubic2d.default: _linear2d("cubic"),
        aten.grid_sampler.default: grid_sampler,
        aten.grid_sampler_2d.default: grid_sampler,
    }
)
