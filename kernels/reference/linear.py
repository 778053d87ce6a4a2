"""Matrix products of integer codes: linear, matmul, gemm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import InputError
from fxc.kernels.reference.quantize import AnyArray, IntArray, Rounding, scale_of
from fxc.kernels.reference.requantize import output_multiplier, requantize

EXACT_IN_FLOAT64 = 1 << 53


def magnitude(x: IntArray) -> int:
    """The largest absolute value, 0 for an empty array."""
    return max(int(x.max()), -int(x.min())) if x.size else 0


def exact_matmul(a: IntArray, b: IntArray) -> IntArray:
    """``a @ b`` in exact integers, [..., M, K] x [..., K, N] -> [..., M, N].

    numpy multiplies int64 matrices without BLAS. Where the largest possible sum stays under 2^53, every partial sum is
    an integer that float64 holds exactly, in any order, so BLAS gives the same integers a hundred times sooner.
    """
    if magnitude(a) * magnitude(b) * a.shape[-1] < EXACT_IN_FLOAT64:
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    return a @ b


def matmul(
    a: AnyArray,
    b: AnyArray,
    *,
    a_zero_point: npt.ArrayLike = 0,
    b_zero_point: npt.ArrayLike = 0,
    bias: npt.ArrayLike | None = None,
) -> IntArray:
    """``(a - a_zero_point) @ (b - b_zero_point) + bias`` as int64 (ONNX MatMulInteger, opset 10).

    Args:
        a: codes [..., M, K]; b: codes [..., K, N]; leading axes broadcast as in numpy.
        a_zero_point: one value, or one per row, [M].
        b_zero_point: one value, or one per column, [N].
        bias: int32 codes of scale s_a * s_b, broadcast against [..., M, N].
    """
    rows = np.asarray(a_zero_point, np.int64)
    rows = rows[:, None] if rows.ndim == 1 and rows.size > 1 else rows
    left = np.asarray(a).astype(np.int64) - rows
    right = np.asarray(b).astype(np.int64) - np.asarray(b_zero_point, np.int64)
    product = exact_matmul(left, right)
    return product if bias is None else product + np.asarray(bias, np.int64)


def linear(
    x: AnyArray,
    w: AnyArray,
    *,
    x_zero_point: int = 0,
    w_zero_point: npt.ArrayLike = 0,
    bias: npt.ArrayLike | None = None,
) -> IntArray:
    """``x[..., I] @ w[O, I].T + bias[O]`` as int64, with PyTorch's weight layout; w_zero_point one value or [O]."""
    return matmul(x, np.asarray(w).T, a_zero_point=x_zero_point, b_zero_point=w_zero_point, bias=bias)


def qlinear_matmul(
    a: AnyArray,
    a_scale: npt.ArrayLike,
    a_zero_point: int,
    b: AnyArray,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: int,
    *,
    dtype: npt.DTypeLike = np.uint8,
    bias: npt.ArrayLike | None = None,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """Requantized matmul: ``clamp(round(float32(acc) * M) + zp_y)``, M = s_a * s_b / s_y (ONNX QLinearMatMul).

    ``b_scale`` is one value or one per output column [N]; ``a_scale`` and ``y_scale`` are one value.
    """
    accumulator = matmul(a, b, a_zero_point=a_zero_point, b_zero_point=b_zero_point, bias=bias)
    multiplier = output_multiplier(a_scale, b_scale, y_scale)
    return requantize(accumulator, multiplier, y_zero_point, dtype=dtype, axis=-1, rounding=rounding)


def qgemm(
    a: AnyArray,
    a_scale: npt.ArrayLike,
    a_zero_point: int,
    b: AnyArray,
    b_scale: npt.ArrayLike,
    b_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: int,
    *,
    bias: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike = np.uint8,
    alpha: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """Requantized Gemm of two matrices (com.microsoft QGemm): M = alpha * s_a * s_b / s_y, bias int32 and unscaled.

    ``alpha`` multiplies the bias too: both lie in one accumulator.
    """
    left, right = np.asarray(a), np.asarray(b)
    if left.ndim != 2 or right.ndim != 2:
        raise InputError(f"gemm takes two matrices, not ranks {left.ndim} and {right.ndim}", fix="use matmul")
    return qlinear_matmul(
        left.T if trans_a else left,
        np.float32(alpha) * scale_of(a_scale),
        a_zero_point,
        right.T if trans_b else right,
        b_scale,
        b_zero_point,
        y_scale,
        y_zero_point,
        bias=bias,
        dtype=dtype,
        rounding=rounding,
    )
