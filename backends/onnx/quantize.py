"""``fxc::quantize`` and ``fxc::dequantize``, which have the arithmetic of the ONNX operators."""

from __future__ import annotations

import numpy as np
import torch

from fxc.backends.onnx.dtypes import to_numpy_dtype
from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Tensor, Writer
from fxc.compiler import qdq


def quantize_tensor(
    g: Writer, x: Tensor, scale: float, zero_point: int, qmin: int, qmax: int, dtype: torch.dtype
) -> Tensor:
    kind = _codes(g, dtype)
    step = g.constant(scale, np.float32, name=f"{g.label}.scale")
    zero = g.constant(zero_point, kind, name=f"{g.label}.zero_point")
    return _clipped(g, g.op("QuantizeLinear", x, step, zero), kind, qmin, qmax)


def quantize_channel(
    g: Writer,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int,
    qmin: int,
    qmax: int,
    dtype: torch.dtype,
) -> Tensor:
    kind = _codes(g, dtype)
    codes = g.op("QuantizeLinear", x, scale, g.as_dtype(zero_point, kind), axis=axis)
    return _clipped(g, codes, kind, qmin, qmax)


def dequantize_tensor(g: Writer, q: Tensor, scale: float, zero_point: int) -> Tensor:
    step = g.constant(scale, np.float32, name=f"{g.label}.scale")
    if q.dtype == np.int32:
        return g.op("DequantizeLinear", q, *_int32_numbers(g, step, zero_point == 0))
    zero = g.constant(zero_point, _known(g, q), name=f"{g.label}.zero_point")
    return g.op("DequantizeLinear", q, step, zero)


def dequantize_channel(g: Writer, q: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    if q.dtype == np.int32:
        zero = bool(np.all(getattr(zero_point, "values", np.ones(1)) == 0))
        return g.op("DequantizeLinear", q, *_int32_numbers(g, scale, zero), axis=axis)
    return g.op("DequantizeLinear", q, scale, _converted(g, zero_point, _known(g, q)), axis=axis)


def _int32_numbers(g: Writer, scale: Tensor, zero: bool) -> tuple[Tensor, ...]:
    # ONNX: the zero point of an int32 tensor is 0, and is left out.
    if not zero:
        g.refuse("an int32 tensor must have zero point 0 in ONNX")
    return (scale,)


def _converted(g: Writer, zero_point: Tensor, kind: np.dtype) -> Tensor:
    if zero_point.dtype == kind or not hasattr(zero_point, "values"):
        return g.as_dtype(zero_point, kind)
    return g.named(f"{zero_point.name}.{kind.name}", zero_point.values.astype(kind))


def _codes(g: Writer, dtype: torch.dtype) -> np.dtype:
    kind = to_numpy_dtype(dtype)
    if kind is None or kind not in (np.dtype(np.int8), np.dtype(np.uint8)):
        g.refuse(f"ONNX below opset 21 quantizes to int8 and uint8 only, not to {dtype}")
    return kind


def _known(g: Writer, q: Tensor) -> np.dtype:
    if q.dtype not in (np.dtype(np.int8), np.dtype(np.uint8)):
        g.refuse(f"ONNX below opset 21 dequantizes int8, uint8 and int32 only, not {q.dtype}")
    return q.dtype


def _clipped(g: Writer, codes: Tensor, kind: np.dtype, qmin: int, qmax: int) -> Tensor:
    """QuantizeLinear saturates to the whole range of its type; a narrower one needs a Clip."""
    limits = np.iinfo(kind)
    if (qmin, qmax) == (limits.min, limits.max):
        return codes
    return g.op("Clip", codes, g.constant(qmin, kind), g.constant(qmax, kind))


LOWERINGS = lowerings(
    {
        qdq.QUANTIZE_TENSOR: quantize_tensor,
        qdq.QUANTIZE_CHANNEL: quantize_channel,
        qdq.DEQUANTIZE_TENSOR: dequantize_tensor,
        qdq.DEQUANTIZE_CHANNEL: dequantize_channel,
    }
)
