"""Convolution of integer codes, 1-d to 3-d, grouped and depthwise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fxc.compiler.errors import InputError
from fxc.kernels.reference.linear import exact_matmul
from fxc.kernels.reference.quantize import AnyArray, IntArray, Rounding, along
from fxc.kernels.reference.requantize import output_multiplier, requantize
from fxc.kernels.reference.windows import PerAxis, Windows


def conv(
    x: AnyArray,
    w: AnyArray,
    *,
    x_zero_point: int = 0,
    w_zero_point: npt.ArrayLike = 0,
    bias: npt.ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> IntArray:
    """``sum (x - x_zero_point) * (w - w_zero_point) + bias`` as int64 (ONNX ConvInteger, opset 10, plus a bias).

    A padded cell holds ``x_zero_point``: it stands for the real number zero.

    Args:
        x: codes [N, C, *spatial] with one to three spatial axes.
        w: codes [O, C / groups, *kernel].
        w_zero_point: one value, or one per output channel, [O].
        bias: int32 codes [O] of scale s_x * s_w, zero point 0.
        padding: one number, one per axis, or ONNX's begins-then-ends.

    Returns:
        int64 accumulators [N, O, *out].

    Raises:
        InputError: ranks, channels and groups that do not fit each other, or a window larger than the input.
    """
    codes, weight = np.asarray(x).astype(np.int64), np.asarray(w).astype(np.int64)
    check_shapes(codes, weight, groups)
    windows = Windows.of(weight.shape[2:], stride, padding, dilation)
    weight = weight - along(np.asarray(w_zero_point, np.int64), weight.shape, 0)
    accumulator = grouped_product(windows.over(windows.padded(codes - x_zero_point, 0)), weight, groups)
    return (
        accumulator if bias is None else accumulator + along(np.asarray(bias, np.int64), accumulator.shape, 1)
    )


def check_shapes(x: IntArray, w: IntArray, groups: int) -> None:
    """Refuse what no convolution can mean."""
    if x.ndim != w.ndim or not 3 <= x.ndim <= 5:
        raise InputError(f"a convolution of ranks {x.ndim} and {w.ndim}", why="both have rank 3, 4 or 5")
    if groups < 1 or w.shape[0] % groups or x.shape[1] != w.shape[1] * groups:
        raise InputError(f"input {x.shape} and weight {w.shape} do not fit {groups} groups")


def grouped_product(patches: IntArray, weight: IntArray, groups: int) -> IntArray:
    """Patches [N, C, *out, *kernel] against weight [O, C/groups, *kernel] -> [N, O, *out]."""
    rank = weight.ndim - 2
    batch, out = patches.shape[0], patches.shape[2 : 2 + rank]
    taps = int(np.prod(weight.shape[1:]))
    kernel_first = np.moveaxis(patches, range(2 + rank, 2 + 2 * rank), range(2, 2 + rank))
    columns = kernel_first.reshape(batch, groups, taps, int(np.prod(out)))
    rows = weight.reshape(groups, weight.shape[0] // groups, taps)
    return exact_matmul(rows, columns).reshape(batch, weight.shape[0], *out)


def qlinear_conv(
    x: AnyArray,
    x_scale: npt.ArrayLike,
    x_zero_point: int,
    w: AnyArray,
    w_scale: npt.ArrayLike,
    w_zero_point: npt.ArrayLike,
    y_scale: npt.ArrayLike,
    y_zero_point: int,
    *,
    bias: npt.ArrayLike | None = None,
    dtype: npt.DTypeLike = np.uint8,
    low: int | None = None,
    high: int | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """Requantized convolution (ONNX QLinearConv): ``clamp(round(float32(acc) * M[o]) + zp_y, low, high)``.

    M[o] = s_x * s_w[o] / s_y in float32. ``low`` and ``high`` also express a fused ReLU or ReLU6. Arguments as in
    :func:`conv`; ``w_scale`` is one value or one per output channel.
    """
    accumulator = conv(
        x,
        w,
        x_zero_point=x_zero_point,
        w_zero_point=w_zero_point,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    multiplier = output_multiplier(x_scale, w_scale, y_scale)
    return requantize(
        accumulator, multiplier, y_zero_point, dtype=dtype, low=low, high=high, axis=1, rounding=rounding
    )
