"""``fxc::quantize`` and ``fxc::dequantize``: the only spelling of quantization in a program's graph.

    q = clamp(round_half_even(x / scale) + zero_point, qmin, qmax)        x = (q - zero_point) * scale

The arithmetic is that of ONNX ``QuantizeLinear`` / ``DequantizeLinear``: a true float32 division (not a product
with a rounded reciprocal) and ties to the even integer.

Overloads: ``tensor`` (one scale and zero point, literals in the graph) and ``channel`` (1-D scale and zero point
along ``axis``). The operators exist once this module has been imported; :mod:`fxc.compiler.program` imports it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_DEFINITIONS = (
    "quantize.tensor(Tensor x, float scale, int zero_point, int qmin, int qmax, ScalarType dtype) -> Tensor",
    "quantize.channel(Tensor x, Tensor scale, Tensor zero_point, int axis, int qmin, int qmax, ScalarType dtype) -> Tensor",
    "dequantize.tensor(Tensor q, float scale, int zero_point) -> Tensor",
    "dequantize.channel(Tensor q, Tensor scale, Tensor zero_point, int axis) -> Tensor",
)


_NARROW = (torch.int8, torch.uint8, torch.int16)
"""Differences of such codes are exact in float32; of an int32 bias they must be taken in integers."""


def _quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, dtype: torch.dtype
) -> Tensor:
    codes = torch.div(x, scale).round_()
    if zero_point.any():
        codes.add_(zero_point)
    return codes.clamp_(qmin, qmax).to(dtype)


def _quantize_tensor(
    x: Tensor, scale: float, zero_point: int, qmin: int, qmax: int, dtype: torch.dtype
) -> Tensor:
    # A tensor divisor keeps the division true on every device; a Python float becomes a reciprocal product on some.
    step = torch.tensor(scale, dtype=x.dtype, device=x.device)
    return torch.div(x, step).round_().add_(zero_point).clamp_(qmin, qmax).to(dtype)


def _quantize_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int, dtype: torch.dtype
) -> Tensor:
    shape = _broadcast(x, axis)
    return _quantize(x, scale.reshape(shape), zero_point.reshape(shape), qmin, qmax, dtype)


def _dequantize_tensor(q: Tensor, scale: float, zero_point: int) -> Tensor:
    step = torch.tensor(scale, dtype=torch.float32, device=q.device)
    if q.dtype in _NARROW:
        shifted = q.to(torch.float32)
        return (shifted if zero_point == 0 else shifted.sub_(zero_point)).mul_(step)
    shifted = q if zero_point == 0 else q.to(torch.int32) - zero_point
    return shifted.to(torch.float32) * step


def _dequantize_channel(q: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    shape = _broadcast(q, axis)
    if q.dtype in _NARROW:
        return q.to(torch.float32).sub_(zero_point.reshape(shape)).mul_(scale.reshape(shape))
    shifted = q.to(torch.int32) - zero_point.reshape(shape).to(torch.int32)
    return shifted.to(torch.float32) * scale.reshape(shape)


def _broadcast(x: Tensor, axis: int) -> list[int]:
    shape = [1] * x.dim()
    shape[axis] = -1
    return shape


def _fake_quantize(x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x, dtype=args[-1])


def _fake_dequantize(q: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(q, dtype=torch.float32)


def _register() -> torch.library.Library:
    library = torch.library.Library("fxc", "DEF")
    for definition in _DEFINITIONS:
        library.define(definition)
    library.impl("quantize.tensor", _quantize_tensor, "CompositeExplicitAutograd")
    library.impl("quantize.channel", _quantize_channel, "CompositeExplicitAutograd")
    library.impl("dequantize.tensor", _dequantize_tensor, "CompositeExplicitAutograd")
    library.impl("dequantize.channel", _dequantize_channel, "CompositeExplicitAutograd")
    for name, fake in (
        ("quantize.tensor", _fake_quantize),
        ("quantize.channel", _fake_quantize),
        ("dequantize.tensor", _fake_dequantize),
        ("dequantize.channel", _fake_dequantize),
    ):
        torch.library.register_fake(f"fxc::{name}", fake, lib=library)
    return library


_LIBRARY = _register()

QUANTIZE_TENSOR = torch.ops.fxc.quantize.tensor
QUANTIZE_CHANNEL = torch.ops.fxc.quantize.channel
DEQUANTIZE_TENSOR = torch.ops.fxc.dequantize.tensor
DEQUANTIZE_CHANNEL = torch.ops.fxc.dequantize.channel
QUANTIZE = (QUANTIZE_TENSOR, QUANTIZE_CHANNEL)
DEQUANTIZE = (DEQUANTIZE_TENSOR, DEQUANTIZE_CHANNEL)
