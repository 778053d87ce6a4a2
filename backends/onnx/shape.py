"""Shape operators: the same elements in another arrangement."""

from __future__ import annotations

import numpy as np
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.shapes import reshape_sizes
from fxc.backends.onnx.writer import Size, Symbolic, Tensor, Writer

aten = torch.ops.aten


def reshape(g: Writer, self: Tensor, shape: list[Size]) -> Tensor:
    # A size of 0 is a real zero only with allowzero; without, it copies the input's.
    if any(not isinstance(s, Symbolic) and s == 0 for s in shape):
        g.need_opset(14, "a reshape to a size of zero")
        return g.op("Reshape", self, g.ints(shape), allowzero=1)
    return g.reshape(self, reshape_sizes(self, shape))


def view(g: Writer, self: Tensor, size: list[Size]) -> Tensor:
    return reshape(g, self, size)


def flatten(g: Writer, self: Tensor, start_dim: int, end_dim: int) -> Tensor:
    rank = len(self.shape)
    if rank == 0:
        return g.reshape(self, [1])
    start, end = start_dim % rank, end_dim % rank
    if start == 1 and end == rank - 1:
        return g.op("Flatten", self, axis=1)
    head = [0] * start
    tail = [g.size(self, i) for i in range(end + 1, rank)]
    return g.reshape(self, [*head, -1, *tail])


def unflatten(g: Writer, self: Tensor, dim: int, sizes: list[Size]) -> Tensor:
    rank = len(self.shape)
    dim %= rank
    tail = [g.size(self, i) for i in range(dim + 1, rank)]
    return reshape(g, self, [*(g.size(self, i) for i in range(dim)), *sizes, *tail])


def permute(g: Writer, self: Tensor, dims: list[int]) -> Tensor:
    return g.transpose(self, [d % len(dims) for d in dims])


def transpose(g: Writer, self: Tensor, dim0: int, dim1: int) -> Tensor:
    order = list(range(len(self.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return g.transpose(self, order)


def t(g: Writer, self: Tensor) -> Tensor:
    return self if len(self.shape) < 2 else g.transpose(self, [1, 0])


def squeeze_all(g: Writer, self: Tensor) -> Tensor:
    return _squeeze(g, self, list(range(len(self.shape))))


def squeeze_dim(g: Writer, self: Tensor, dim: int | list[int]) -> Tensor:
    return _squeeze(g, self, [dim] if isinstance(dim, int) else dim)


def _squeeze(g: Writer, x: Tensor, dims: list[int]) -> Tensor:
    axes = [d % len(x.shape) for d in dims if len(x.shape) and x.shape[d] == 1]
    return g.squeeze(x, *axes) if axes else x


def unsqueeze(g: Writer, self: Tensor, dim: int) -> Tensor:
    return g.unsqueeze(self, dim)


def expand(g: Writer, self: Tensor, size: list[Size]) -> Tensor:
    """A size of -1 keeps the dimension, which ONNX Expand spells 1."""
    lead = len(size) - len(self.shape)
    wanted = [1 if _keeps(self, i - lead, s) else s for i, s in enumerate(size)]
    if lead == 0 and all(not isinstance(s, Symbolic) and s == 1 for s in wanted):
        return self
    return g.op("Expand", self, g.ints(wanted))


def _keeps(x: Tensor, axis: int, size: Size) -> bool:
    if isinstance(size, Symbolic):
        return axis >= 0 and x.shape[axis] == size.text
    return size == -1 or (axis >= 0 and x.shape[axis] == size)


def expand_as(g: Writer, self: Tensor, other: Tensor) -> Tensor:
    return g.op("Expand", self, g.op("Shape", other))


def repeat(g: Writer, self: Tensor, repeats: list[Size]) -> Tensor:
    lead = len(repeats) - len(self.shape)
    x = g.unsqueeze(self, *range(lead)) if lead else self
    return g.op("Tile", x, g.ints(repeats))


def tile(g: Writer, self: Tensor, dims: list[Size]) -> Tensor:
    ones: list[Size] = [1] * (len(self.shape) - len(dims))
    return repeat(g, self, ones + list(dims))


def repeat_interleave(g: Writer, self: Tensor, repeats: int, dim: int | None) -> Tensor:
    if dim is None:
        g.refuse("repeat_interleave needs a dim")
    rank = len(self.shape)
    dim %= rank
    copies = [1] * (rank + 1)
    copies[dim + 1] = repeats
    tiled = g.op("Tile", g.unsqueeze(self, dim + 1), g.ints(copies))
    sizes = [g.size(self, i) for i in range(rank)]
    size = sizes[dim]
    sizes[dim] = -1 if isinstance(size, Symbolic) else size * repeats
    return g.reshape(tiled, reshape_sizes(self, sizes))


def pixel_shuffle(g: Writer, self: Tensor, upscale_factor: int) -> Tensor:
    return g.op("DepthToSpace", self, blocksize=upscale_factor, mode="CRD")


def pixel_unshuffle(g: Writer, self: Tensor, downscale_factor: int) -> Tensor:
    """[n, c, h·r, w·r] -> [n, c, h, r, w, r] -> [n, c, r, r, h, w] -> [n, c·r·r, h, w]"""
    c, h, w = (g.known(self, axis) for axis in (1, 2, 3))
    r = downscale_factor
    split = g.reshape(self, [-1, c, h // r, r, w // r, r])
    moved = g.op("Transpose", split, perm=[0, 1, 3, 5, 2, 4])
    return g.reshape(moved, [-1, c * r * r, h // r, w // r])


def channel_shuffle(g: Writer, self: Tensor, groups: int) -> Tensor:
    """[n, g·c, …] -> [n, g, c, …] -> [n, c, g, …] -> [n, g·c, …]"""
    channels = g.known(self, 1)
    rest = [g.size(self, i) for i in range(2, len(self.shape))]
    split = g.reshape(self, [0, groups, channels // groups, *rest])
    order = [0, 2, 1, *range(3, len(self.shape) + 1)]
    return g.reshape(g.op("Transpose", split, perm=order), [0, channels, *rest])


def split(g: Writer, self: Tensor, split_size: int, dim: int) -> tuple[Tensor, ...]:
    size = g.known(self, dim)
    sizes = [min(split_size, size - start) for start in range(0, size, split_size)]
    return split_sizes(g, self, sizes, dim)


def split_sizes(g: Writer, self: Tensor, split_sizes: list[int], dim: int) -> tuple[Tensor, ...]:
    if len(split_sizes) == 1:
        return (self,)
    return g.ops("Split", self, g.ints(split_sizes), outputs=len(split_sizes), axis=dim)


def chunk(g: Writer, self: Tensor, chunks: int, dim: int) -> tuple[Tensor, ...]:
    return split(g, self, -(-g.known(self, dim) // chunks), dim)


def unbind(g: Writer, self: Tensor, dim: int) -> tuple[Tensor, ...]:
    places = range(g.known(self, dim))
    return tuple(g.op("Gather", self, g.constant(i, np.int64), axis=dim) for i in places)


LOWERINGS = lowerings(
    {
        aten.reshape.default: reshape,
        aten.view.default: view,
        aten._unsafe_view.default: view,
        aten.flatten.using_ints: flatten,
        aten.unflatten.int: unflatten,
        aten.permute.default: permute,
        aten.transpose.int: transpose,
        aten.t.default: t,
        aten.squeeze.default: squeeze_all,
        aten.squeeze.dim: squeeze_dim,
        aten.squeeze.dims: squeeze_dim,
        aten.unsqueeze.default: unsqueeze,
        aten.expand.default: expand,
        aten.expand_as.default: expand_as,
        aten.repeat.default: repeat,
        aten.tile.default: tile,
        aten.repeat_interleave.self_int: repeat_interleave,
        aten.pixel_shuffle.default: pixel_shuffle,
        aten.pixel_unshuffle.default: pixel_unshuffle,
        aten.channel_shuffle.default: channel_shuffle,
        aten.split.Tensor: split,
        aten.split_with_sizes.default: split_sizes,
        aten.chunk.default: chunk,
        aten.unbind.int: unbind,
    }
)
