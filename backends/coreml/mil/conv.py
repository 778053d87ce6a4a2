"""MIL's convolutions."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import Ints
from fxc.backends.coreml.mil.padding import padded, sides

_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolution of ``x`` [n, c, ...] with ``weight`` [c_out, c / groups, ...], one to three spatial dimensions."""
    rank = x.dim() - 2
    steps, spread = strides or (1,) * rank, dilations or (1,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], spread)]
    widths = sides(pad_type, pad, x.shape[2:], reach, steps)
    if all(before == after for before, after in widths):
        return _CONV[x.dim()](x, weight, bias, steps, [before for before, _ in widths], spread, groups)
    return _CONV[x.dim()](padded(x, widths), weight, bias, steps, 0, spread, groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution of ``x`` with ``weight`` [c_in, c_out / groups, ...]: everything, then cut to the padding.

    With ``output_shape`` the result ends where that says, also behind the last product, where it is the bias.
    """
    rank = x.dim() - 2
    steps, spread = strides or (1,) * rank, dilations or (1,) * rank
    whole = _TRANSPOSED[x.dim()](x, weight, None, steps, 0, 0, groups, spread)
    sizes = output_shape[2:] if output_shape else _sizes(pad_type, pad, x, whole, steps)
    for i, size in enumerate(sizes):
        axis = i + 2
        before = _cut(pad_type, pad, i, whole.shape[axis], size)
        missing = before + size - whole.shape[axis]
        if missing > 0:
            whole = padded(whole, [(0, missing if j == i else 0) for j in range(rank)])
        whole = whole.narrow(axis, before, size)
    return whole if bias is None else whole + bias.reshape(-1, *(1,) * rank)


def _sizes(pad_type: str, pad: Ints | None, x: Tensor, whole: Tensor, strides: Ints) -> list[int]:
    if pad_type in ("same", "same_lower"):
        return [d * s for d, s in zip(x.shape[2:], strides)]
    cuts = [0] * (2 * (x.dim() - 2)) if pad_type == "valid" or pad is None else pad
    return [d - cuts[2 * i] - cuts[2 * i + 1] for i, d in enumerate(whole.shape[2:])]


def _cut(pad_type: str, pad: Ints | None, i: int, whole: int, size: int) -> int:
    """How much of ``whole`` lies before what is kept."""
    if pad_type == "custom" and pad is not None:
        return pad[2 * i]
    if pad_type == "same":
        return max(whole - size, 0) // 2
    return math.ceil(max(whole - size, 0) / 2) if pad_type == "same_lower" else 0


OPERATORS = (conv, conv_transpose)
