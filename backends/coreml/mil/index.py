"""MIL's operators that choose, order or write elements by position."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fxc.backends.coreml.mil.operator import Bools, Ints, refuse


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """``x[begin:end:stride, ...]``; a masked begin or end is the edge, a squeezed dimension one position."""
    positions, squeezed = _positions(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for axis, at in enumerate(positions):
        if at != range(x.shape[axis]):
            x = _taken(x, axis, at)
    return x.squeeze(squeezed) if squeezed else x


def _taken(x: Tensor, axis: int, at: range) -> Tensor:
    if at.step > 0 or not at:
        return x[(slice(None),) * axis + (slice(at.start, max(at.stop, at.start), max(at.step, 1)),)]
    return x.index_select(axis, torch.tensor(at))


def _positions(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[list[range], list[int]]:
    found, squeezed = [], []
    for axis, size in enumerate(x.shape):
        first = None if begin_mask and begin_mask[axis] else begin[axis]
        if squeeze_mask and squeeze_mask[axis]:
            at = (first or 0) % size
            found.append(range(at, at + 1))
            squeezed.append(axis)
            continue
        last = None if end_mask and end_mask[axis] else end[axis]
        found.append(range(size)[slice(first, last, stride[axis] if stride else 1)])
    return found, squeezed


def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """``x`` with ``update`` in the place that :func:`slice_by_index` would take."""
    positions, _ = _positions(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.clone()
    places = torch.meshgrid([torch.tensor(p) for p in positions], indexing="ij")
    result[places] = update.reshape([len(p) for p in positions])
    return result


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """``size`` elements from ``begin`` on; -1 means to the end."""
    for axis, (first, count) in enumerate(zip(begin, size)):
        start = first % x.shape[axis] if first < 0 else first
        x = x.narrow(axis, start, x.shape[axis] - start if count < 0 else count)
    return x


def gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """Slices of ``x`` along ``axis``; of the first ``batch_dims`` dimensions each has its own indices."""
    axis = axis % x.dim()
    if batch_dims:
        rows = [gather(a, i, axis - 1, batch_dims - 1) for a, i in zip(x, indices)]
        return torch.stack(rows)
    chosen = _positive(indices, x.shape[axis]).flatten()
    taken = x.index_select(axis, chosen)
    return taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """An element for each index, the other coordinates being the index's own."""
    return torch.gather(x, axis, _positive(indices, x.shape[axis]))


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices at coordinates, which lie along the last dimension of ``indices``."""
    if batch_dims:
        return torch.stack([gather_nd(a, i, batch_dims - 1) for a, i in zip(x, indices)])
    return x[_coordinates(x, indices)]


def _coordinates(x: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
    return tuple(_positive(indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))


def _positive(indices: Tensor, size: int) -> Tensor:
    at = indices.long()
    return torch.where(at < 0, at + size, at)


_REDUCED = {"add": "sum", "sub": "sum", "mul": "prod", "div": "prod", "max": "amax", "min": "amin"}


def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """``data`` with slices of ``updates`` written, or worked in, at ``indices`` along ``axis``."""
    axis = axis % data.dim()
    laid = [1] * data.dim()
    laid[axis] = -1
    flat = updates.reshape(*data.shape[:axis], indices.numel(), *data.shape[axis + 1 :])
    return scatter_along_axis(data, indices.flatten().reshape(laid).expand_as(flat), flat, axis, mode)


def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """``data`` with each element of ``updates`` written, or worked in, at its index along ``axis``."""
    at = _positive(indices, data.shape[axis])
    if mode == "update":
        return data.scatter(axis, at, updates)
    return data.scatter_reduce(axis, at, _turned(updates, mode), _REDUCED[mode])


def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """``data`` with slices of ``updates`` written, or worked in, at coordinates."""
    depth = indices.shape[-1]
    rows = data.reshape(*data.shape[:depth], -1)
    strides = torch.tensor([int(torch.tensor(data.shape[i + 1 : depth]).prod()) for i in range(depth)])
    at = (torch.stack(_coordinates(data, indices), -1) * strides).sum(-1).flatten()
    flat = rows.reshape(-1, rows.shape[-1])
    return scatter(flat, at, updates.reshape(len(at), -1), 0, mode).reshape(data.shape)


def _turned(updates: Tensor, mode: str) -> Tensor:
    turn: dict[str, Callable[[Tensor], Tensor]] = {"sub": torch.neg, "div": torch.reciprocal}
    if mode not in _REDUCED:
        raise refuse("mode", mode)
    return turn[mode](updates) if mode in turn else updates


def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """The ``k`` largest, or smallest, along ``axis``, and where they are."""
    values, indices = x.topk(k, axis, largest=not ascending, sorted=True)
    return (values, indices) if return_indices else (values,)


def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Positions in order of value."""
    return torch.argsort(x, dim=axis, descending=not ascending, stable=True)


def non_zero(x: Tensor) -> Tensor:
    """Coordinates of what is not 0, one row each."""
    return torch.nonzero(x)


OPERATORS = (
    argsort,
    gather,
    gather_along_axis,
    gather_nd,
    non_zero,
    scatter,
    scatter_along_axis,
    scatter_nd,
    slice_by_index,
    slice_by_size,
    slice_update,
    topk,
)
