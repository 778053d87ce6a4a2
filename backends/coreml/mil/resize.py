"""MIL's resizing of images: the last two dimensions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import Ints, refuse


def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0
) -> Tensor:
    """By factors, each pixel from the one that it falls upon."""
    factors = (scale_factor_height, scale_factor_width)
    sizes = [math.floor(n * f) for n, f in zip(x.shape[-2:], factors)]
    at = [
        (torch.arange(m) / f).floor().long().clamp(max=n - 1) for n, m, f in zip(x.shape[-2:], sizes, factors)
    ]
    return x.index_select(-2, at[0]).index_select(-1, at[1])


def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """To a size, each pixel from the one that it falls upon."""
    sizes = (target_size_height, target_size_width)
    at = [torch.arange(m) * n // m for n, m in zip(x.shape[-2:], sizes)]
    return x.index_select(-2, at[0]).index_select(-1, at[1])


def upsample_bilinear(
    x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0, align_corners: bool = True
) -> Tensor:
    """By factors, between pixels; the step follows from the sizes, not from the factors."""
    sizes = [math.floor(n * f) for n, f in zip(x.shape[-2:], (scale_factor_height, scale_factor_width))]
    return resize_bilinear(
        x, sizes[0], sizes[1], "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS"
    )


def resize_bilinear(
    x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """To a size, between pixels."""
    for axis, size in ((-2, target_size_height), (-1, target_size_width)):
        x = _interpolated(x, axis, grid(x.shape[axis], size, sampling_mode))
    return x


def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """The last ``resized_dims`` dimensions to the last sizes of ``shape``, where 0 keeps a size."""
    for back in range(1, resized_dims + 1):
        size = shape[-back] or x.shape[-back]
        points = grid(x.shape[-back], size, sampling_mode)
        if interpolation_mode == "NEAREST_NEIGHBOR":
            x = x.index_select(-back, _nearest(points, sampling_mode))
        else:
            x = _interpolated(x, -back, points)
    return x


def grid(n: int, m: int, mode: str) -> Tensor:
    """Where, in an input of ``n``, the ``m`` output points lie."""
    i = torch.arange(m, dtype=torch.float64)
    match mode:
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS" if m > 1:
            points = i * (n - 1) / (m - 1)
        case "STRICT_ALIGN_CORNERS":
            points = i * 0
        case "ALIGN_CORNERS":
            points = i * 0 + (n - 1) / 2
        case "DEFAULT":
            points = i * n / m
        case "OFFSET_CORNERS":
            points = (0.5 + i) * max(1, n - 1) / m
        case "UNALIGN_CORNERS":
            points = (0.5 + i) * n / m - 0.5
        case _:
            raise refuse("sampling_mode", mode)
    return points.clamp(0, n - 1)


def _nearest(points: Tensor, mode: str) -> Tensor:
    return (points.floor() if mode == "DEFAULT" else (points + 0.5).floor()).long()


def _interpolated(x: Tensor, axis: int, points: Tensor) -> Tensor:
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    part = (points - low).to(torch.float32).reshape(-1, *(1,) * (-axis - 1))
    first, second = x.index_select(axis, low), x.index_select(axis, high)
    return first + (second - first) * part


def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Values at coordinates (x, y), along the last dimension of ``coordinates``."""
    ways = {"constant": "zeros", "border": "border", "reflection": "reflection"}
    if padding_mode not in ways or (padding_mode == "constant" and padding_value != 0):
        raise refuse("padding_mode", f"{padding_mode}, {padding_value}")
    if coordinates_mode != "normalized_minus_one_to_one":
        raise refuse("coordinates_mode", coordinates_mode)
    return F.grid_sample(x, coordinates, sampling_mode, ways[padding_mode], align_corners)


def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Without some rows above and below, and columns left and right."""
    (above, below), (left, right) = crop_height, crop_width
    return x[..., above : x.shape[-2] - below, left : x.shape[-1] - right]


OPERATORS = (
    crop,
    resample,
    resize,
    resize_bilinear,
    resize_nearest_neighbor,
    upsample_bilinear,
    upsample_nearest_neighbor,
)
