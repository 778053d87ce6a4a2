"""MIL's poolings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import Ints
from fxc.backends.coreml.mil.padding import Sides, padded, sides

_AVERAGE = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
_MAXIMUM = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Mean over windows; padding counts as zeros unless it is excluded, and what ``ceil_mode`` adds never counts."""
    steps = strides or (1,) * len(kernel_sizes)
    widths = _sides(x, kernel_sizes, steps, pad_type, pad, ceil_mode)
    if all(w == (0, 0) for w in widths):
        return _AVERAGE[x.dim()](x, kernel_sizes, steps)
    sums = _AVERAGE[x.dim()](padded(x, widths), kernel_sizes, steps)
    if exclude_padding_from_average:
        counted = padded(torch.ones(1, 1, *x.shape[2:]), widths)
    else:
        # Of the padding, what was asked for counts; what ceil_mode adds behind it does not.
        given = sides(pad_type, pad, x.shape[2:], kernel_sizes, steps)
        inner = torch.ones(1, 1, *(n + b + a for n, (b, a) in zip(x.shape[2:], given)))
        counted = padded(inner, [(0, w[1] - g[1]) for w, g in zip(widths, given)])
    return sums / _AVERAGE[x.dim()](counted, kernel_sizes, steps)


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Maximum over windows; padding is less than every number."""
    steps = strides or (1,) * len(kernel_sizes)
    widths = _sides(x, kernel_sizes, steps, pad_type, pad, ceil_mode)
    if all(b == a and 2 * b <= k for (b, a), k in zip(widths, kernel_sizes)):
        return _MAXIMUM[x.dim()](x, kernel_sizes, steps, [b for b, _ in widths])
    return _MAXIMUM[x.dim()](padded(x, widths, float("-inf")), kernel_sizes, steps)


def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Square root of the sum of squares over windows."""
    steps = strides or (1,) * len(kernel_sizes)
    widths = _sides(x, kernel_sizes, steps, pad_type, pad, ceil_mode)
    count = 1
    for size in kernel_sizes:
        count *= size
    return torch.sqrt(_AVERAGE[x.dim()](padded(x * x, widths), kernel_sizes, steps) * count)


def _sides(x: Tensor, kernel: Ints, steps: Ints, pad_type: str, pad: Ints | None, ceil_mode: bool) -> Sides:
    """Padding of each dimension, widened behind so that ``ceil_mode``'s last window has something to lie on."""
    widths = sides(pad_type, pad, x.shape[2:], kernel, steps)
    if not ceil_mode:
        return widths
    found = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, steps, widths):
        count = -(-(n + before + after - k) // s) + 1
        if (count - 1) * s >= n + before and before + after > 0:
            count -= 1
        found.append((before, max((count - 1) * s + k - n - before, after)))
    return found


OPERATORS = (avg_pool, l2_pool, max_pool)
