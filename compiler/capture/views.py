"""Views as functions: replay one on a new base, and put a changed view back into its base."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

_aten = torch.ops.aten
Make = Callable[..., fx.Node]
"""``make(target, *args)``: a new node, with its value, at the insertion point."""

_SAME: tuple[Any, ...] = (
    _aten.alias.default,
    _aten.detach.default,
    _aten.lift_fresh.default,
    _aten.dropout.default,
    _aten.alpha_dropout.default,
    _aten.feature_dropout.default,
    _aten.contiguous.default,
    _aten.to.dtype,
    _aten.to.dtype_layout,
    _aten.to.device,
    _aten.to.other,
    _aten.type_as.default,
)
_RESHAPES: tuple[Any, ...] = (
    _aten.view.default,
    _aten.reshape.default,
    _aten.reshape_as.default,
    _aten.view_as.default,
    _aten.flatten.using_ints,
    _aten.unflatten.int,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.unsqueeze.default,
)
_SWAPS: tuple[Any, ...] = (
    _aten.transpose.int,
    _aten.t.default,
    _aten.swapaxes.default,
    _aten.swapdims.default,
)


class NoInverse(Exception):
    """A view whose change cannot be put back into its base by the rules here."""


def replay(view: fx.Node, base: fx.Node, make: Make) -> fx.Node:
    """The view ``view`` taken from ``base`` instead of its own first argument."""
    if view.target is operator.getitem:
        pieces: Any = view.args[0]
        return make(operator.getitem, replay(pieces, base, make), view.args[1])
    return make(view.target, base, *view.args[1:], **view.kwargs)


def restore(view: fx.Node, base: fx.Node, changed: fx.Node, make: Make) -> fx.Node:
    """``base`` with the elements that ``view`` shows replaced by ``changed``.

    Raises:
        NoInverse: the view overlaps itself or its kind is unknown.
    """
    target = view.target
    if target in _SAME and _geometry(view) == _geometry(base):
        return changed
    if target in _RESHAPES:
        # The view's own memory order is that of the base, so reshaping back is exact.
        if _geometry(view) == _geometry(base):
            return changed
        return make(_aten.reshape.default, changed, sizes_of(base, make))
    if target in _SWAPS:
        return make(target, changed, *view.args[1:])
    if target is _aten.permute.default:
        order: Any = view.args[1]
        rank = len(order)
        places = [dim % rank for dim in order]
        return make(_aten.permute.default, changed, [places.index(i) for i in range(rank)])
    if target is _aten.select.int:
        return _restore_select(view.args[1], view.args[2], base, changed, make)
    if target is _aten.slice.Tensor:
        dim, start, end, step = view.args[1:5]
        return _restore_slice(dim, start, end, step, base, changed, make)
    if target is operator.getitem:
        return _restore_piece(view, base, changed, make)
    raise NoInverse(str(target))


def sizes_of(node: fx.Node, make: Make) -> list[Any]:
    """The sizes of a node's value: integers, or ``sym_size`` nodes for dynamic dimensions."""
    sizes = enumerate(node.meta["val"].shape)
    return [s if isinstance(s, int) else make(_aten.sym_size.int, node, dim) for dim, s in sizes]


def _geometry(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.meta["val"].shape)


def _restore_select(dim: Any, index: Any, base: fx.Node, changed: fx.Node, make: Make) -> fx.Node:
    size = base.meta["val"].shape[dim]
    if not isinstance(index, int) or not isinstance(size, int):
        return make(_aten.select_scatter.default, base, changed, dim, index)
    start = index % size
    column = make(_aten.unsqueeze.default, changed, dim % base.meta["val"].dim())
    return _restore_slice(dim, start, start + 1, 1, base, column, make)


def _restore_slice(
    dim: Any, start: Any, end: Any, step: Any, base: fx.Node, changed: fx.Node, make: Make
) -> fx.Node:
    """slice_scatter(base, changed, dim, start, end) -> cat(base[:start], changed, base[end:])."""
    size = base.meta["val"].shape[dim]
    if _is_whole(start, end, step, size):
        return changed
    if step != 1 or not all(isinstance(v, int) for v in (size, start or 0, size if end is None else end)):
        return make(_aten.slice_scatter.default, base, changed, dim, start, end, step)
    first, last, _ = slice(start, end).indices(size)
    if last <= first:
        return base
    parts = [make(_aten.slice.Tensor, base, dim, 0, first, 1)] if first > 0 else []
    parts.append(changed)
    if last < size:
        parts.append(make(_aten.slice.Tensor, base, dim, last, size, 1))
    return make(_aten.cat.default, parts, dim) if len(parts) > 1 else changed


def _is_whole(start: Any, end: Any, step: Any, size: Any) -> bool:
    from_start = start is None or (isinstance(start, int) and start == 0)
    to_end = end is None or (isinstance(end, int) and end >= 2**31) or end is size
    if isinstance(end, int) and isinstance(size, int):
        to_end = end >= size
    return from_start and to_end and step == 1


def _restore_piece(view: fx.Node, base: fx.Node, changed: fx.Node, make: Make) -> fx.Node:
    pieces: Any = view.args[0]
    index: Any = view.args[1]
    values = pieces.meta["val"]
    if pieces.target is _aten.unbind.int:
        return _restore_select(pieces.args[1], index % len(values), base, changed, make)
    dim = pieces.args[2] if len(pieces.args) > 2 else 0
    sizes = [value.shape[dim] for value in values]
    if not isinstance(dim, int) or not all(isinstance(size, int) for size in sizes):
        raise NoInverse(str(pieces.target))
    start = sum(sizes[: index % len(sizes)])
    return _restore_slice(dim, start, start + sizes[index], 1, base, changed, make)
