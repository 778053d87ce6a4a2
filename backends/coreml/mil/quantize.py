"""MIL's quantize and dequantize (iOS 17)."""

from __future__ import annotations

import torch
from torch import Tensor

from fxc.backends.coreml.mil.operator import refuse

_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """``clip(round(input / scale) + zero_point)``, halves to the even integer; a vector lies along ``axis``."""
    if output_dtype not in _RANGES:
        raise refuse("output_dtype", output_dtype)
    codes = torch.round(input / along(scale, input, axis))
    if zero_point is not None:
        codes = codes + along(zero_point, input, axis)
    return codes.clamp(*_RANGES[output_dtype]).to(getattr(torch, output_dtype))


def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """``scale (input - zero_point)``; a vector lies along ``axis``."""
    codes = input.float()
    if zero_point is not None:
        codes = codes - along(zero_point, input, axis)
    return codes * along(scale, input, axis)


def along(values: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A scalar as it is, a vector laid along ``axis`` of ``x``."""
    if values.dim() == 0 or axis is None:
        return values.float()
    laid = [1] * x.dim()
    laid[axis] = values.numel()
    return values.float().expand(values.numel()).reshape(laid)


OPERATORS = (dequantize, quantize)
