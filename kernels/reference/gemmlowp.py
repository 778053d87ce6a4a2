"""Requantization without floating point: the fixed-point multiplier of gemmlowp and the LiteRT reference kernels.

A real multiplier m is stored as an int32 mantissa q and a power of two, m ~ q * 2^(shift - 31), 2^30 <= q < 2^31.

Sources: google/gemmlowp fixedpoint/fixedpoint.h (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT);
tensorflow/lite/kernels/internal/quantization_util.cc (QuantizeMultiplier) and common.cc
(MultiplyByQuantizedMultiplier, with and without TFLITE_SINGLE_ROUNDING);
Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import InputError, LegalityError
from fxc.kernels.reference.quantize import AnyArray, IntArray, along, integer_range
from fxc.kernels.reference.requantize import fits

Variant = Literal["double", "single"]
INT32_MAX = (1 << 31) - 1


def quantize_multiplier(multiplier: float) -> tuple[int, int]:
    """A real multiplier above zero as (mantissa, shift), the mantissa rounded half away from zero to 31 bits.

    A multiplier below 2^-32 becomes (0, 0): the kernels cannot shift that far and answer zero.

    Raises:
        InputError: not above zero and finite, or 2^30 and more, which the kernels cannot shift.
    """
    if not (multiplier > 0 and math.isfinite(multiplier)):
        raise InputError(f"multiplier {multiplier} is not above zero and finite")
    fraction, shift = math.frexp(multiplier)
    mantissa = math.floor(fraction * (1 << 31) + 0.5)
    if mantissa == 1 << 31:
        mantissa, shift = mantissa // 2, shift + 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise InputError(f"multiplier {multiplier} is 2^30 or more", why="the left shift would leave int32")
    return mantissa, shift


def doubling_high_mul(a: IntArray, b: IntArray) -> IntArray:
    """round(a * b / 2^31), the division truncating after a nudge of half; INT32_MIN * INT32_MIN saturates."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    truncated = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(truncated, INT32_MAX)


def rounding_divide_by_power(x: IntArray, exponent: IntArray) -> IntArray:
    """round(x / 2^exponent), ties away from zero; ``exponent`` from 0 to 31."""
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiply_double_rounding(x: IntArray, mantissa: IntArray, shift: IntArray) -> IntArray:
    """x * mantissa * 2^(shift - 31), rounded twice: to a whole number of 2^-right, then to a whole number.

    The default of the LiteRT reference kernels. The first rounding can carry a value below a tie onto it.
    """
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = x << left
    if not fits(shifted):
        raise LegalityError("a left-shifted accumulator overflows int32", fix="use a multiplier below one")
    return rounding_divide_by_power(doubling_high_mul(shifted, mantissa), right)


def multiply_single_rounding(x: IntArray, mantissa: IntArray, shift: IntArray) -> IntArray:
    """floor(x * mantissa / 2^(31 - shift) + 1/2): rounded once, ties towards plus infinity (TFLITE_SINGLE_ROUNDING)."""
    total = 31 - shift
    return (x * mantissa + (np.int64(1) << (total - 1))) >> total


def requantize_fixed_point(
    accumulator: IntArray,
    multiplier: npt.ArrayLike,
    zero_point: int = 0,
    *,
    dtype: npt.DTypeLike = np.int8,
    low: int | None = None,
    high: int | None = None,
    axis: int | None = None,
    variant: Variant = "double",
) -> AnyArray:
    """``clamp(acc * multiplier + zero_point, low, high)``, the product in fixed point.

    Args:
        accumulator: int64 holding int32 values, any shape.
        multiplier: real, float64: one value, or [C] along ``axis``. LiteRT computes s_x * s_w / s_y in double.
        variant: ``double`` rounding (the default build of LiteRT) or ``single``.

    Raises:
        LegalityError: the accumulator, or its left shift, does not fit int32.
    """
    accumulator = np.asarray(accumulator, np.int64)
    if not fits(accumulator):
        raise LegalityError("an accumulator overflows int32", why="integer kernels sum into 32 bits")
    dtype, low, high = integer_range(dtype, low, high)
    real = np.asarray(multiplier, np.float64)
    pairs = np.array([quantize_multiplier(float(m)) for m in real.ravel()], np.int64).reshape(*real.shape, 2)
    mantissa = along(pairs[..., 0], accumulator.shape, axis)
    shift = along(pairs[..., 1], accumulator.shape, axis)
    multiply = {"double": multiply_double_rounding, "single": multiply_single_rounding}[variant]
    return np.clip(multiply(accumulator, mantissa, shift) + zero_point, low, high).astype(dtype)
