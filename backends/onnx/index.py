"""Taking, joining and placing parts of tensors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fxc.backends.onnx.dtypes import Array
from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Size, Symbolic, Tensor, Writer

aten = torch.ops.aten
_END = sys.maxsize


def slice_(g: Writer, self: Tensor, dim: int, start: Size | None, end: Size | None, step: int) -> Tensor:
    if start in (None, 0) and end in (None, _END) and step == 1:
        return self
    return g.slice(self, dim, 0 if start is None else start, _END if end is None else end, step)


def narrow(g: Writer, self: Tensor, dim: int, start: Size, length: Size) -> Tensor:
    if isinstance(start, Symbolic) or isinstance(length, Symbolic):
        g.refuse("narrow with a dynamic start or length has no lowering")
    start = start if start >= 0 else start + g.known(self, dim)
    return g.slice(self, dim, start, start + length)


def select(g: Writer, self: Tensor, dim: int, index: Size) -> Tensor:
    if isinstance(index, Symbolic):
        return g.op("Gather", self, g.squeeze(index.tensor, 0), axis=dim)
    return g.op("Gather", self, g.constant(index, np.int64), axis=dim)


def index_select(g: Writer, self: Tensor, dim: int, index: Tensor) -> Tensor:
    return g.op("Gather", self, index, axis=dim)


def embedding(g: Writer, weight: Tensor, indices: Tensor) -> Tensor:
    return g.op("Gather", weight, indices, axis=0)


def gather(g: Writer, self: Tensor, dim: int, index: Tensor) -> Tensor:
    return g.op("GatherElements", self, index, axis=dim)


def take_along_dim(g: Writer, self: Tensor, indices: Tensor, dim: int | None) -> Tensor:
    if dim is None:
        return gather(g, g.reshape(self, [-1]), 0, g.reshape(indices, [-1]))
    dim %= len(self.shape)
    return gather(g, _spread(g, self, indices, dim), dim, _spread(g, indices, self, dim))


def _spread(g: Writer, x: Tensor, other: Tensor, dim: int) -> Tensor:
    """``x`` broadcast to ``other`` along every dimension but ``dim``, which GatherElements does not do itself."""
    if all(a == b or b == 1 for i, (a, b) in enumerate(zip(x.shape, other.shape)) if i != dim):
        return x
    sizes: list[Size] = [1 if i == dim or a != 1 else g.size(other, i) for i, a in enumerate(x.shape)]
    return g.op("Expand", x, g.ints(sizes))


def index(g: Writer, self: Tensor, indices: list[Tensor | None]) -> Tensor:
    """``x[i, :, j]`` with integer tensors: Gather for one, GatherND for several."""
    places = [axis for axis, i in enumerate(indices) if i is not None]
    tensors = [i for i in indices if i is not None]
    if any(i.dtype in (np.bool_, np.uint8) for i in tensors):
        g.refuse("indexing by a mask has a data-dependent shape")
    if len(places) == 1:
        return g.op("Gather", self, tensors[0], axis=places[0])
    return _gather_several(g, self, places, tensors)


def _gather_several(g: Writer, x: Tensor, places: list[int], tensors: list[Tensor]) -> Tensor:
    rank, count = len(x.shape), len(places)
    rest = [axis for axis in range(rank) if axis not in places]
    front = g.transpose(x, places + rest) if places + rest != list(range(rank)) else x
    picked = g.op("GatherND", front, _joint_index(g, tensors))
    # The indexed dimensions stand where they were if they were adjacent, else in front.
    width = max(len(i.shape) for i in tensors)
    if places != list(range(places[0], places[0] + count)) or places[0] == 0:
        return picked
    before = places[0]
    order = [*range(width, width + before), *range(width), *range(width + before, width + len(rest))]
    return g.op("Transpose", picked, perm=order)


def _joint_index(g: Writer, tensors: list[Tensor]) -> Tensor:
    """Broadcast index tensors and stack them along a new last dimension."""
    wide = [g.as_dtype(i, np.int64) for i in tensors]
    shape = g.op("Shape", wide[0])
    if len({tuple(i.shape) for i in tensors}) > 1:
        total = wide[0]
        for other in wide[1:]:
            total = g.op("Add", total, other)
        shape = g.op("Shape", total)
    last = max(len(i.shape) for i in tensors)
    return g.op("Concat", *(g.unsqueeze(g.op("Expand", i, shape), last) for i in wide), axis=last)


def scatter_src(g: Writer, self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return g.op("ScatterElements", self, index, src, axis=dim)


def scatter_value(g: Writer, self: Tensor, dim: int, index: Tensor, value: Scalar) -> Tensor:
    filled = g.op("Expand", g.constant(value), g.op("Shape", index))
    return g.op("ScatterElements", self, index, filled, axis=dim)


def slice_scatter(
    g: Writer, self: Tensor, src: Tensor, dim: int, start: int | None, end: int | None, step: int
) -> Tensor:
    places = range(*slice(start, end, step).indices(g.known(self, dim)))
    return _place(g, self, src, dim, list(places))


def select_scatter(g: Writer, self: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    place = index % g.known(self, dim)
    return _place(g, self, g.unsqueeze(src, dim % len(self.shape)), dim, [place])


def _place(g: Writer, x: Tensor, src: Tensor, dim: int, places: list[int]) -> Tensor:
    """``x`` with ``src`` at ``places`` along ``dim``: ScatterND with that dimension in front."""
    rank = len(x.shape)
    order = [dim % rank] + [axis for axis in range(rank) if axis != dim % rank]
    back = [order.index(axis) for axis in range(rank)]
    index = g.constant(np.asarray(places, np.int64)[:, None])
    front = g.op("Transpose", x, perm=order)
    filled = g.op("ScatterND", front, index, g.op("Transpose", src, perm=order))
    return g.op("Transpose", filled, perm=back)


def cat(g: Writer, tensors: list[Tensor], dim: int) -> Tensor:
    # PyTorch lets tensors of shape (0,) into any concat.
    parts = [g.as_dtype(t) for t in tensors if tuple(t.shape) != (0,)]
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=dim)


def stack(g: Writer, tensors: list[Tensor], dim: int) -> Tensor:
    rank = len(tensors[0].shape) + 1
    return g.op("Concat", *(g.unsqueeze(g.as_dtype(t), dim % rank) for t in tensors), axis=dim % rank)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(g: Writer, self: Tensor, pad: list[int], mode: str, value: float | None) -> Tensor:
    """PyTorch lists (begin, end) from the last dimension on, ONNX all begins and then all ends."""
    if mode == "circular":
        g.need_opset(19, "circular padding")
    rank = len(self.shape)
    begins, ends = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        begins[rank - 1 - i], ends[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    fill = [g.constant(value)] if mode == "constant" and value else []
    return g.op("Pad", self, g.ints(begins + ends), *fill, mode=_PAD_MODES[mode])


def constant_pad(g: Writer, self: Tensor, pad: list[int], value: Scalar) -> Tensor:
    return _pad(g, self, pad, "constant", value)


def reflection_pad(g: Writer, self: Tensor, padding: list[int]) -> Tensor:
    return _pad(g, self, padding, "reflect", None)


def replication_pad(g: Writer, self: Tensor, padding: list[int]) -> Tensor:
    return _pad(g, self, padding, "replicate", None)


_pad = pad


def roll(g: Writer, self: Tensor, shifts: list[int], dims: list[int]) -> Tensor:
    if not dims:
        flat = _rolled(g, g.reshape(self, [-1]), 0, shifts[0])
        return g.op("Reshape", flat, g.shape_of(self))
    x = self
    for shift, dim in zip(shifts, dims):
        size = self.shape[dim]
        x = _rolled(g, x, dim, shift if isinstance(size, str) else shift % int(size))
    return x


def _rolled(g: Writer, x: Tensor, dim: int, shift: int) -> Tensor:
    if shift == 0:
        return x
    return g.op("Concat", g.slice(x, dim, -shift, _END), g.slice(x, dim, 0, -shift), axis=dim)


def flip(g: Writer, self: Tensor, dims: list[int]) -> Tensor:
    count = len(dims)
    steps = [g.ints([step] * count) for step in (-1, -_END, -1)]
    return g.op("Slice", self, steps[0], steps[1], g.ints(dims), steps[2])


def tril(g: Writer, self: Tensor, diagonal: int) -> Tensor:
    return _triangle(g, self, np.tril, diagonal)


def triu(g: Writer, self: Tensor, diagonal: int) -> Tensor:
    return _triangle(g, self, np.triu, diagonal)


def _triangle(g: Writer, x: Tensor, cut: Any, diagonal: int) -> Tensor:
    kept: Array = cut(np.ones((g.known(x, -2), g.known(x, -1)), bool), diagonal)
    return g.op("Where", g.constant(kept), x, g.constant(0))


def topk(g: Writer, self: Tensor, k: Size, dim: int, largest: bool, sorted: bool) -> tuple[Tensor, Tensor]:
    values, places = g.ops(
        "TopK", self, g.ints([k]), outputs=2, axis=dim, largest=int(largest), sorted=int(sorted)
    )
    return values, places


def sort(g: Writer, self: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    return topk(g, self, g.size(self, dim), dim, descending, True)


def argsort(g: Writer, self: Tensor, dim: int, descending: bool) -> Tensor:
    return sort(g, self, dim, descending)[1]


def one_hot(g: Writer, self: Tensor, num_classes: int) -> Tensor:
    if num_classes < 0:
        g.refuse("one_hot needs num_classes: else its shape depends on the data")
    return g.op("OneHot", self, g.constant(num_classes, np.int64), g.constant([0, 1], np.int64), axis=-1)


def unfold(g: Writer, self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of one dimension: their number stays in its place, their elements become the last dimension."""
    rank = len(self.shape)
    axis = dimension % rank
    starts = np.arange(0, g.known(self, axis) - size + 1, step)
    windows = g.op("Gather", self, g.constant(_windows(starts, size, 1).reshape(-1)), axis=axis)
    windows = g.reshape(
        windows,
        [*[0] * axis, len(starts), size, *(-1 if isinstance(d, str) else d for d in self.shape[axis + 1 :])],
    )
    order = [d for d in range(rank + 1) if d != axis + 1] + [axis + 1]
    return g.op("Transpose", windows, perm=order)


def im2col(
    g: Writer,
    self: Tensor,
    kernel_size: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
) -> Tensor:
    """[n, c, h, w] -> [n, c·kh·kw, windows]: one Gather per spatial dimension.

    By indices in a row and a Reshape: OpenVINO's int8 passes take a scale per channel for a dequantization, move it behind
    the Gather, and do not see that a table of indices adds a dimension.
    """
    channels = g.known(self, 1)
    sizes = [g.known(self, axis) + 2 * padding[axis - 2] for axis in (2, 3)]
    x = self
    if any(padding):
        x = g.op("Pad", x, g.ints([0, 0, *padding, 0, 0, *padding]), mode="constant")
    split: list[Size] = []
    for i in range(2):
        last = sizes[i] - dilation[i] * (kernel_size[i] - 1)
        windows = _windows(np.arange(0, last, stride[i]), kernel_size[i], dilation[i])
        x = g.op("Gather", x, g.constant(windows.T.reshape(-1)), axis=i + 2)
        split += windows.T.shape
    order = g.op("Transpose", g.reshape(x, [0, channels, *split]), perm=[0, 1, 2, 4, 3, 5])
    return g.reshape(order, [0, channels * kernel_size[0] * kernel_size[1], -1])


def _windows(starts: Array, size: int, dilation: int) -> Array:
    """``[windows, size]`` indices."""
    return (starts[:, None] + np.arange(size) * dilation).astype(np.int64)


def meshgrid_indexing(g: Writer, tensors: Sequence[Tensor], indexing: str) -> tuple[Tensor, ...]:
    if indexing != "ij":
        g.refuse("meshgrid with indexing 'xy' has no lowering")
    return meshgrid(g, tensors)


def meshgrid(g: Writer, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    count = len(tensors)
    views = [g.reshape(t, [-1 if i == place else 1 for i in range(count)]) for place, t in enumerate(tensors)]
    shape = g.ints([g.size(t, 0) for t in tensors])
    return tuple(g.op("Expand", view, shape) for view in views)


LOWERINGS = lowerings(
    {
        aten.slice.Tensor: slice_,
        aten.narrow.default: narrow,
        aten.select.int: select,
        aten.index_select.default: index_select,
        aten.embedding.default: embedding,
        aten.gather.default: gather,
        aten.take_along_dim.default: take_along_dim,
        aten.index.Tensor: index,
        aten.scatter.src: scatter_src,
        aten.scatter.value: scatter_value,
        aten.slice_scatter.default: slice_scatter,
        aten.select_scatter.default: select_scatter,
        aten.cat.default: cat,
        aten.concat.default: cat,
        aten.stack.default: stack,
        aten.pad.default: pad,
        aten.constant_pad_nd.default: constant_pad,
        aten.reflection_pad1d.default: reflection_pad,
        aten.reflection_pad2d.default: reflection_pad,
        aten.reflection_pad3d.default: reflection_pad,
        aten.replication_pad1d.default: replication_pad,
        aten.replication_pad2d.default: replication_pad,
        aten.replication_pad3d.default: replication_pad,
        aten.roll.default: roll,
        aten.flip.default: flip,
        aten.tril.default: tril,
        aten.triu.default: triu,
        aten.topk.default: topk,
        aten.sort.default: sort,
        aten.argsort.default: argsort,
        aten.one_hot.default: one_hot,
        aten.unfold.default: unfold,
        aten.im2col.default: im2col,
        aten.meshgrid.default: meshgrid,
        aten.meshgrid.indexing: meshgrid_indexing,
    }
)
