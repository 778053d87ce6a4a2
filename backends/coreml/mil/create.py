"""MIL's operators that make tensors, and those that go along or mask one."""

from __future__ import annotations

import torch
from torch import Tensor

from fxc.backends.coreml.mil.operator import Ints


def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """A tensor of one value."""
    return _full(shape, value)


def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """A tensor of one value in another's shape."""
    return _full(tuple(ref_tensor.shape), value)


def _full(shape: Ints, value: Tensor | None) -> Tensor:
    one = torch.zeros(()) if value is None else value.reshape(())
    return one.expand(shape).clone()


def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """From ``start`` in steps up to, and without, ``end``."""
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """Along a new ``axis``, ``on_value`` at the index and ``off_value`` elsewhere."""
    on = torch.ones((), dtype=torch.int32) if on_value is None else on_value.reshape(())
    off = torch.zeros((), dtype=on.dtype) if off_value is None else off_value.reshape(())
    hit = indices.unsqueeze(-1) == torch.arange(one_hot_vector_size)
    return torch.where(hit, on, off).movedim(-1, axis)


def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sum, from the end if reversed; an exclusive one leaves out the element itself."""
    line = x.flip(axis) if reverse else x
    total = torch.cumsum(line, axis, dtype=x.dtype)
    if exclusive:
        total = total - line
    return total.flip(axis) if reverse else total


def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """A band of the last two dimensions around their diagonal, zeros elsewhere; a negative bound keeps everything."""
    below = torch.arange(x.shape[-2]).unsqueeze(1) - torch.arange(x.shape[-1])
    kept = torch.ones_like(below, dtype=torch.bool)
    if lower >= 0:
        kept &= below <= lower
    if upper >= 0:
        kept &= -below <= upper
    return torch.where(kept, x, torch.zeros((), dtype=x.dtype))


OPERATORS = (band_part, cumsum, fill, fill_like, one_hot, range_1d)
