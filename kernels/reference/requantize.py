"""From an integer accumulator to the codes of the next tensor, by a float32 multiplier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import LegalityError
from fxc.kernels.reference.quantize import (
    AnyArray,
    FloatArray,
    IntArray,
    Rounding,
    along,
    integer_range,
    rounded,
    saturated,
    scale_of,
)


def output_multiplier(x_scale: npt.ArrayLike, w_scale: npt.ArrayLike, y_scale: npt.ArrayLike) -> FloatArray:
    """``(x_scale * w_scale) / y_scale``, each step rounded to float32, in the order ONNX Runtime takes."""
    return scale_of(scale_of(x_scale) * scale_of(w_scale) / scale_of(y_scale))


def fits(accumulator: IntArray, bits: int = 32) -> bool:
    """Whether a signed register of ``bits`` holds every value."""
    limit = 1 << (bits - 1)
    return accumulator.size == 0 or (-limit <= int(accumulator.min()) and int(accumulator.max()) < limit)


def requantize(
    accumulator: IntArray,
    multiplier: npt.ArrayLike,
    zero_point: int = 0,
    *,
    dtype: npt.DTypeLike = np.int8,
    low: int | None = None,
    high: int | None = None,
    axis: int | None = None,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """``clamp(round(float32(acc) * multiplier) + zero_point, low, high)``.

    Two float32 roundings come before the integer one: of ``acc`` when it exceeds 2^24, and of the product. Both are
    part of the rule: ONNX Runtime, XNNPACK (half_even), ncnn and MNN (half_away) compute them so.

    Args:
        accumulator: int64, any shape; the exact sum of products, bias included.
        multiplier: one float32 value, or [C] along ``axis``.
        zero_point: of the output, added after rounding.

    Raises:
        LegalityError: a value does not fit the int32 accumulator that these chips have.
    """
    accumulator = np.asarray(accumulator, np.int64)
    if not fits(accumulator):
        raise LegalityError(
            "an accumulator overflows int32",
            why="integer kernels sum into 32 bits and would wrap around",
            fix="use fewer terms, a narrower weight range, or keep the layer in float",
        )
    limits = integer_range(dtype, low, high)
    factor = along(scale_of(multiplier), accumulator.shape, axis)
    with np.errstate(over="ignore"):
        whole = rounded(accumulator.astype(np.float32) * factor, rounding)
    return saturated(whole, np.asarray(zero_point, np.int64), limits)
