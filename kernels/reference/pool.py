"""Pooling of integer codes [N, C, *spatial]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fxc.kernels.reference.quantize import (
    AnyArray,
    IntArray,
    Rounding,
    Scale,
    dequantize,
    integer_range,
    rounded,
    saturated,
    scale_of,
)
from fxc.kernels.reference.windows import PerAxis, Windows


def max_pool(
    x: AnyArray,
    kernel: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> AnyArray:
    """The largest code of each window; padding never wins. Scale and zero point stay the input's (ONNX MaxPool)."""
    x = np.asarray(x)
    windows = Windows.of(kernel, stride, padding, dilation, ceil_mode)
    lowest = integer_range(x.dtype)[1]
    return windows.over(windows.padded(x, lowest)).max(axis=last_axes(x))


def last_axes(x: AnyArray) -> tuple[int, ...]:
    """The kernel axes of a window view of ``x``."""
    return tuple(range(-(x.ndim - 2), 0))


def window_sums(
    x: AnyArray, windows: Windows, *, zero_point: int, count_padding: bool
) -> tuple[IntArray, IntArray]:
    """Exact sums of (x - zero_point) per window, and how many cells each window averages over.

    Returns:
        sums [N, C, *out] and counts [1, 1, *out], both int64. Cells past the end padding are never counted.
    """
    centred = np.asarray(x).astype(np.int64) - zero_point
    cells = np.ones((1, 1, *x.shape[2:]), np.int64)
    sums = windows.over(windows.padded(centred, 0)).sum(axis=last_axes(x))
    counts = windows.over(windows.padded(cells, int(count_padding), 0)).sum(axis=last_axes(x))
    return sums, counts


def average_pool(
    x: AnyArray,
    x_scale: Scale,
    x_zero_point: int,
    y_scale: Scale,
    y_zero_point: int,
    kernel: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_padding: bool = False,
    dtype: npt.DTypeLike = np.uint8,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """``clamp(round(float32(sum) * M) + zp_y)``: an exact integer sum of (x - zp_x), then one requantization.

    M = s_x / (s_y * count) in float32, count being the window's cells without padding unless ``count_padding``.
    """
    windows = Windows.of(kernel, stride, padding, 1, ceil_mode)
    sums, counts = window_sums(x, windows, zero_point=x_zero_point, count_padding=count_padding)
    multiplier = scale_of(scale_of(x_scale) / (scale_of(y_scale) * counts.astype(np.float32)))
    whole = rounded(sums.astype(np.float32) * multiplier, rounding)
    return saturated(whole, np.asarray(y_zero_point, np.int64), integer_range(dtype))


def global_average_pool(
    x: AnyArray,
    x_scale: Scale,
    x_zero_point: int,
    y_scale: Scale,
    y_zero_point: int,
    *,
    dtype: npt.DTypeLike = np.uint8,
    rounding: Rounding = "half_even",
) -> AnyArray:
    """:func:`average_pool` over all spatial cells, [N, C, *spatial] -> [N, C, 1...].

    It is com.microsoft QLinearGlobalAveragePool on x86, and QLinearAveragePool where the kernel covers the input.
    """
    kernel = x.shape[2:]
    return average_pool(
        x, x_scale, x_zero_point, y_scale, y_zero_point, kernel, dtype=dtype, rounding=rounding
    )


def qlinear_average_pool(
    x: AnyArray,
    x_scale: Scale,
    x_zero_point: int,
    y_scale: Scale,
    y_zero_point: int,
    kernel: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    count_padding: bool = False,
    dtype: npt.DTypeLike = np.uint8,
) -> AnyArray:
    """com.microsoft QLinearAveragePool as ONNX Runtime computes it where the kernel does not cover the input.

    A float32 pooling: dequantized cells are summed in row-major order, each sum rounded to float32, divided by the
    count, and ``y = clamp(rint(mean / s_y + zp_y))`` with the zero point added *before* rounding. Against
    :func:`average_pool` it differs by at most one code: on ties when zp_y is odd, and where float32 sums are inexact.
    """
    windows = Windows.of(kernel, stride, padding, 1)
    real = windows.over(windows.padded(dequantize(x, x_scale, x_zero_point), 0))
    counts = window_sums(x, windows, zero_point=x_zero_point, count_padding=count_padding)[1]
    total = np.zeros(real.shape[: x.ndim], np.float32)
    for tap in np.ndindex(*kernel):
        total = total + real[(..., *tap)]
    mean = total / counts.astype(np.float32)
    return saturated(
        np.rint(mean / scale_of(y_scale) + np.float32(y_zero_point)),
        np.asarray(0, np.int64),
        integer_range(dtype),
    )
