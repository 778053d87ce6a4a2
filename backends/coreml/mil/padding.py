"""What ``pad_type`` means, for convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import refuse

Sides = list[tuple[int, int]]


def sides(
    pad_type: str,
    pad: Sequence[int] | None,
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
) -> Sides:
    """Elements added before and after each spatial dimension.

    Args:
        pad_type: ``valid``, ``custom``, ``same`` (the odd one behind) or ``same_lower`` (before).
        pad: before and after of each dimension in turn, read for ``custom``.
        sizes, reach, strides: of the input, of the kernel with its dilation, and its step, per spatial dimension.
    """
    match pad_type:
        case "valid":
            return [(0, 0)] * len(sizes)
        case "custom":
            given = pad or (0,) * (2 * len(sizes))
            return [(given[2 * i], given[2 * i + 1]) for i in range(len(sizes))]
        case "same" | "same_lower":
            totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, reach, strides)]
            halves = [(total // 2, total - total // 2) for total in totals]
            return [(b, a) for a, b in halves] if pad_type == "same_lower" else halves
    raise refuse("pad_type", pad_type)


def padded(x: Tensor, widths: Sides, value: float = 0.0) -> Tensor:
    """``x`` with its last dimensions widened."""
    return F.pad(x, [w for pair in reversed(widths) for w in pair], value=value)
