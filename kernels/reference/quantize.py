"""Float <-> integer codes, with the arithmetic of ONNX QuantizeLinear and DequantizeLinear.

Source: ONNX operator specification, QuantizeLinear and DequantizeLinear, opsets 13 to 21.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import InputError

Rounding = Literal["half_even", "half_away"]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[np.generic]
Scale = float | np.float32
Scalar = TypeVar("Scalar", bound=np.generic)


def rounded(x: npt.NDArray[np.floating], rounding: Rounding = "half_even") -> npt.NDArray[np.floating]:
    """Round to the nearest integer, in the dtype of ``x`` and without any intermediate rounding.

    ``half_even`` is C ``rintf`` in the default mode (ONNX, TensorRT, XNNPACK, Core ML);
    ``half_away`` is C ``roundf`` (ncnn, MNN): ties leave zero.
    """
    if rounding == "half_even":
        return np.rint(x)
    if rounding == "half_away":
        whole = np.trunc(x)
        return whole + np.copysign(np.abs(x - whole) >= 0.5, x).astype(x.dtype)
    raise InputError(f"unknown rounding {rounding!r}", fix="use 'half_even' or 'half_away'")


def integer_range(
    dtype: npt.DTypeLike, low: int | None = None, high: int | None = None
) -> tuple[np.dtype[np.generic], int, int]:
    """The dtype, lowest and highest code; the limits default to what ``dtype`` can hold.

    A narrower range in a wider container is how 4-bit codes (-8..7 in int8) and symmetric weights (-127..127) are said.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        raise InputError(f"{dtype} is not an integer dtype")
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    if not info.min <= low < high <= info.max:
        raise InputError(f"range {low}..{high} is empty or does not fit {dtype}")
    return dtype, low, high


def scale_of(scale: npt.ArrayLike) -> FloatArray:
    """A scale or multiplier as float32, checked to be finite and above zero."""
    array = np.asarray(scale, np.float32)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise InputError("a scale is zero, negative or not finite in float32", why="codes are x / scale")
    return array


def along(parameter: npt.NDArray[Scalar], shape: tuple[int, ...], axis: int | None) -> npt.NDArray[Scalar]:
    """A parameter shaped to broadcast against ``shape``: [C] lies along ``axis``, a single value anywhere."""
    if parameter.size == 1:
        return parameter.reshape(())
    if axis is None or parameter.shape != (shape[axis],):
        raise InputError(
            f"a parameter of shape {parameter.shape} for a tensor of shape {shape}, axis {axis}",
            why="a scale, zero point or bias is one value, or one value per channel of a named axis",
        )
    aligned = [1] * len(shape)
    aligned[axis] = parameter.size
    return parameter.reshape(aligned)


def saturated(
    whole: npt.NDArray[np.floating], zero_point: IntArray, limits: tuple[np.dtype, int, int]
) -> AnyArray:
    """Clamp(whole + zero_point) in exact arithmetic; ``whole`` holds integers or infinities."""
    dtype, low, high = limits
    inside = np.clip(whole.astype(np.float64), low - zero_point, high - zero_point)
    return (inside.astype(np.int64) + zero_point).astype(dtype)


def quantize(
    x: FloatArray,
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike = 0,
    *,
    dtype: npt.DTypeLike = np.int8,
    low: int | None = None,
    high: int | None = None,
    axis: int | None = None,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """``clamp(round(x / scale) + zero_point, low, high)``, the division being a true float32 division.

    Multiplying by a rounded ``1 / scale`` instead answers differently on about a third of the exact ties.

    Args:
        x: float32, any shape. Infinities saturate.
        scale: one value, or [C] along ``axis``; used as float32.
        zero_point: one value, or [C]; added after rounding, so it does not move a tie.
        dtype: the container of the codes; ``low`` and ``high`` narrow its range.

    Raises:
        InputError: ``x`` is not float32 or holds NaN (ONNX leaves its code undefined), or a bad scale or range.
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise InputError(f"quantize takes float32, not {x.dtype}", why="the division is a float32 division")
    if np.isnan(x).any():
        raise InputError("quantize was given NaN", why="no integer code stands for it")
    limits = integer_range(dtype, low, high)
    divisor = along(scale_of(scale), x.shape, axis)
    with np.errstate(over="ignore"):
        whole = rounded(x / divisor, rounding)
    return saturated(whole, along(np.asarray(zero_point, np.int64), x.shape, axis), limits)


def dequantize(
    codes: AnyArray, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, *, axis: int | None = None
) -> FloatArray:
    """``float32(codes - zero_point) * scale``: an exact difference, one conversion, one float32 product.

    For 8 and 16 bits the conversion is exact; int32 codes (biases) above 2^24 are rounded by it, as ONNX Runtime does.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise InputError(f"dequantize takes integer codes, not {codes.dtype}")
    offset = along(np.asarray(zero_point, np.int64), codes.shape, axis)
    difference = (codes.astype(np.int64) - offset).astype(np.float32)
    return difference * along(scale_of(scale), codes.shape, axis)
