"""Fake tensors of a known shape, made directly: an operator on fake tensors with symbolic sizes takes milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch._prims_common import is_contiguous_or_false
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def is_plain(x: Any) -> bool:
    """Whether ``x`` is a fake CPU tensor that is surely contiguous: what is made from it elementwise is so too."""
    return (
        isinstance(x, FakeTensor)
        and x.layout is torch.strided
        and x.device.type == "cpu"
        and (_is_row_major(x) or is_contiguous_or_false(x))
    )


def _is_row_major(x: FakeTensor) -> bool:
    """Whether strides in plain numbers say so: nearly every value's do, and PyTorch's own test computes with symbols."""
    shape, strides = x.shape, x.stride()
    if not all(isinstance(n, int) for n in (*shape[1:], *strides)):
        return False
    return all(stride == prod(shape[d + 1 :]) for d, stride in enumerate(strides))


def fresh(mode: FakeTensorMode, shape: Sequence[int | torch.SymInt], dtype: torch.dtype) -> FakeTensor:
    """A contiguous fake CPU tensor; to be called outside of ``mode``, which would make a fake of the fake."""
    return FakeTensor(mode, torch.empty(shape, dtype=dtype, device="meta"), device=torch.device("cpu"))
