"""MIL's operators that move values or change shapes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import IntList, Ints, Tensors, refuse
from fxc.backends.coreml.mil.padding import padded


def reshape(x: Tensor, shape: Ints) -> Tensor:
    """``x`` in another shape: one -1 is what is left, a 0 the size of the same dimension, counted from the last."""
    sizes = [_inherited(x, len(shape) - i) if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(sizes)


def _inherited(x: Tensor, behind: int) -> int:
    return x.shape[-behind] if behind <= x.dim() else 1


def reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: IntList, ends: IntList, end_masks: IntList
) -> Tensor:
    """``x`` in a shape put together of parts of other tensors' shapes."""
    sizes: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks):
        sizes += ref.shape[begin:] if mask else ref.shape[begin:end]
    return x.reshape(sizes)


def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Dimensions in another order."""
    return x.permute(perm)


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """New dimensions of size 1, at ``axes`` of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Without dimensions of size 1: those named, or all."""
    return x.squeeze() if axes is None else x.squeeze(axes)


def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """A matrix: what is before ``axis`` by what is from it on."""
    axis = axis + x.dim() if axis < 0 else axis
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """One behind the other along ``axis``, or in turns; numbers as vectors of one."""
    values = [v if v.dim() else v.reshape(1) for v in values]
    if not interleave:
        return torch.cat(values, axis)
    axis = axis % values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Tensor, ...]:
    """Pieces along ``axis``, of equal sizes or those given."""
    if split_sizes is not None:
        return x.split(list(split_sizes), axis)
    return x.split(x.shape[axis] // (num_splits or 1), axis)


def stack(values: Tensors, axis: int) -> Tensor:
    """Along a new dimension."""
    return torch.stack(values, axis)


def shape(x: Tensor) -> Tensor:
    """The sizes of ``x``."""
    return torch.tensor(x.shape, dtype=torch.int32)


def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeated along each dimension."""
    return x.repeat(reps)


def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """The last dimensions widened: ``pad`` has before and after of each, in order of dimensions."""
    widths = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)]
    if mode == "constant":
        return padded(x, widths, constant_val)
    if mode not in ("reflect", "replicate"):
        raise refuse("mode", mode)
    for back, (before, after) in enumerate(reversed(widths)):
        x = _mirrored(x, x.dim() - 1 - back, before, after, mode)
    return x


def _mirrored(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One dimension at a time: PyTorch widens the last ones of few ranks only."""
    if not before and not after:
        return x
    last = x.movedim(axis, -1)
    wide = F.pad(last.reshape(1, -1, last.shape[-1]), (before, after), mode)
    return wide.reshape(*last.shape[:-1], wide.shape[-1]).movedim(-1, axis)


def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """From the last to the first along ``axes``, or all."""
    return x.flip(list(range(x.dim())) if axes is None else list(axes))


def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Blocks of channels to blocks of pixels, the position in the block varying slowest among channels."""
    n, c, h, w = x.shape
    b = block_size
    return (
        x.reshape(n, b, b, c // (b * b), h, w)
        .permute(0, 3, 4, 1, 5, 2)
        .reshape(n, c // (b * b), h * b, w * b)
    )


def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Blocks of pixels to channels, the position in the block varying slowest."""
    n, c, h, w = x.shape
    b = block_size
    return (
        x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)
    )


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """As in PyTorch: the position in the block varies fastest among channels."""
    return F.pixel_shuffle(x, upscale_factor)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """As in PyTorch."""
    return F.pixel_unshuffle(x, downscale_factor)


def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows along ``axis``; their elements lie along the dimension behind it."""
    axis = axis % x.dim()
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


OPERATORS = (
    concat,
    depth_to_space,
    expand_dims,
    flatten2d,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    reshape,
    reshape_like,
    reverse,
    shape,
    sliding_windows,
    space_to_depth,
    split,
    squeeze,
    stack,
    tile,
    transpose,
)
