"""Sums, products and concatenations of codes.

Each operator has two rules, and they differ. ``add`` and ``mul`` say what a graph of DequantizeLinear, float32
arithmetic and QuantizeLinear means. ``qlinear_add`` and ``qlinear_mul`` say what ONNX Runtime's fused x86 kernels
compute: one float32 expression with the output zero point inside it, rounded once. On an exact tie the fused form
rounds to an even *code*, the graph to an even *multiple of the scale*, so with an odd output zero point the two differ
by one on every tie. Elsewhere they differ only where float32 rounding decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fxc.kernels.reference.quantize import (
    AnyArray,
    FloatArray,
    Rounding,
    Scale,
    dequantize,
    integer_range,
    quantize,
    saturated,
    scale_of,
)


@dataclass(frozen=True)
class Coded:
    """A tensor of codes with the one scale and zero point that give them meaning."""

    codes: AnyArray
    scale: Scale
    zero_point: int = 0

    def real(self) -> FloatArray:
        """The float32 numbers that the codes stand for."""
        return dequantize(self.codes, self.scale, self.zero_point)


def add(
    a: Coded,
    b: Coded,
    y_scale: Scale,
    y_zero_point: int,
    *,
    dtype: npt.DTypeLike = np.uint8,
    low: int | None = None,
    high: int | None = None,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """``quantize(dequantize(a) + dequantize(b))``, the sum in float32; shapes broadcast."""
    return quantize(
        a.real() + b.real(), y_scale, y_zero_point, dtype=dtype, low=low, high=high, rounding=rounding
    )


def mul(
    a: Coded,
    b: Coded,
    y_scale: Scale,
    y_zero_point: int,
    *,
    dtype: npt.DTypeLike = np.uint8,
    low: int | None = None,
    high: int | None = None,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """``quantize(dequantize(a) * dequantize(b))``, the product in float32; shapes broadcast."""
    return quantize(
        a.real() * b.real(), y_scale, y_zero_point, dtype=dtype, low=low, high=high, rounding=rounding
    )


def fused_multiply_add(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> FloatArray:
    """``a * b + c`` of float32 values with one rounding, as an FMA instruction gives.

    The product of two float32 values is exact in float64. The sum is rounded to odd there, which makes the last
    rounding, to float32, the only one that counts (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums",
    IEEE Transactions on Computers, 2008).
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    addend = np.asarray(c, np.float32).astype(np.float64)
    total = np.asarray(product + addend)
    back = total - product
    error = (product - (total - back)) + (addend - back)
    even = total.view(np.int64) % 2 == 0
    odd = np.where(even & (error != 0), np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32)


def qlinear_add(
    a: Coded, b: Coded, y_scale: Scale, y_zero_point: int, *, dtype: npt.DTypeLike = np.uint8
) -> AnyArray:
    """com.microsoft QLinearAdd as ONNX Runtime computes it with AVX2::

        ra = s_a / s_y;   rb = s_b / s_y;   fixed = zp_y - fma(ra, zp_a, rb * zp_b)
        y  = clamp(rint(fma(a, ra, fma(b, rb, fixed))))

    every step in float32, ``fma`` with one rounding. Where ``a`` is the one broadcast along the last axis, ONNX
    Runtime swaps the operands first. The formula was found by experiment with the Linux wheel (the fma in ``fixed`` is
    the C++ compiler's); another compiler, or ARM with its fixed-point kernel, may answer one code beside.
    """
    if a.codes.shape[-1:] in ((), (1,)) and b.codes.shape[-1:] not in ((), (1,)):
        a, b = b, a
    ratio_a, ratio_b = scale_of(a.scale) / scale_of(y_scale), scale_of(b.scale) / scale_of(y_scale)
    zeros = fused_multiply_add(ratio_a, a.zero_point, ratio_b * np.float32(b.zero_point))
    inner = fused_multiply_add(b.codes, ratio_b, np.float32(y_zero_point) - zeros)
    total = fused_multiply_add(a.codes, ratio_a, inner)
    return saturated(np.rint(total), np.asarray(0, np.int64), integer_range(dtype))


def qlinear_mul(
    a: Coded, b: Coded, y_scale: Scale, y_zero_point: int, *, dtype: npt.DTypeLike = np.uint8
) -> AnyArray:
    """com.microsoft QLinearMul as ONNX Runtime computes it: ``clamp(rint(float32(n) * M + zp_y))``.

    n = (a - zp_a) * (b - zp_b) is an exact integer, M = s_a * s_b / s_y, product and sum each rounded to float32.
    """
    left = a.codes.astype(np.int64) - a.zero_point
    product = (left * (b.codes.astype(np.int64) - b.zero_point)).astype(np.float32)
    multiplier = scale_of(a.scale) * scale_of(b.scale) / scale_of(y_scale)
    total = product * multiplier + np.float32(y_zero_point)
    return saturated(np.rint(total), np.asarray(0, np.int64), integer_range(dtype))


def concat(
    parts: Sequence[Coded],
    y_scale: Scale,
    y_zero_point: int,
    *,
    axis: int = 1,
    dtype: npt.DTypeLike = np.uint8,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """Join along ``axis`` after bringing every part to the output's scale (also com.microsoft QLinearConcat).

    A part that already has the output's scale, zero point and dtype is copied.
    """
    return np.concatenate([recoded(p, y_scale, y_zero_point, dtype, rounding) for p in parts], axis=axis)


def recoded(
    part: Coded, y_scale: Scale, y_zero_point: int, dtype: npt.DTypeLike, rounding: Rounding
) -> AnyArray:
    """The codes that ``part`` has under another scale and zero point: ``quantize(dequantize(part))``."""
    same_scale = bool(scale_of(part.scale) == scale_of(y_scale))
    if same_scale and part.zero_point == y_zero_point and part.codes.dtype == np.dtype(dtype):
        return part.codes
    return quantize(part.real(), y_scale, y_zero_point, dtype=dtype, rounding=rounding)
