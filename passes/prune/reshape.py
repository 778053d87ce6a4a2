"""Labels across a reshape, and the sizes that it asks for afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import fx

from fxc.passes.prune.atoms import Dims, Ints, Label
from fxc.passes.prune.factors import Segment, segments
from fxc.passes.prune.flow import Changes, Cut, Flow, Rule, resized, tensor_argument

aten = torch.ops.aten

_PRODUCTS = (aten.scaled_dot_product_attention.default, aten.matmul.default, aten.bmm.default)
_STEPS_TO_PRODUCT = 6


def reshape(flow: Flow, node: fx.Node) -> Dims:
    """A dimension that splits carries its atoms on in one of its factors: the other factors keep their size."""
    source = tensor_argument(node)
    old, new = flow.shape(source), flow.shape(node)
    found: list[Label] = [None] * len(new)
    for segment in segments(old, new):
        labels = [flow.of(source)[i] for i in segment.old]
        if all(label is None for label in labels):
            continue
        if segment.factors is None:
            flow.atoms.pin(labels, "is cut across by a reshape", node)
            continue
        factors = _split(flow, node, segment, labels)
        for j, span in zip(segment.new, segment.new_factors):
            found[j] = _merge(flow, node, [factors[k] for k in span], [segment.factors[k] for k in span])
    _sizes_read(flow, node, found)
    return tuple(found)


def _split(flow: Flow, node: fx.Node, segment: Segment, labels: Sequence[Label]) -> list[Label]:
    """A label for each factor."""
    assert segment.factors is not None
    found: list[Label] = [None] * len(segment.factors)
    for i, label, span in zip(segment.old, labels, segment.old_factors):
        if label is None:
            continue
        sizes = [segment.factors[k] for k in span]
        active = _carried(label.reshape(sizes))
        if active is None:
            active = _chosen(flow, node, i, sizes)
            along = flow.atoms.tie_all(_by_axis(label.reshape(sizes), active), node)
            flow.chose(node, i, len(sizes), along)
        found[span[active]] = _by_axis(label.reshape(sizes), active)[:, 0]
    return found


def _by_axis(atoms: Ints, axis: int) -> Ints:
    """One row for each index of ``axis``."""
    return np.moveaxis(atoms, axis, 0).reshape(atoms.shape[axis], -1)


def _carried(atoms: Ints) -> int | None:
    """The axis along which alone the atoms differ, as after a flatten; ``None`` if there is none."""
    for axis in range(atoms.ndim):
        rows = _by_axis(atoms, axis)
        if (rows == rows[:, :1]).all():
            return axis
    return None


def _chosen(flow: Flow, node: fx.Node, place: int, sizes: Sequence[int]) -> int:
    """The last factor first: the same positions in each block. Where heads are to go, the one before it."""
    order = list(range(len(sizes)))[::-1]
    if flow.heads and len(order) > 1 and _to_product(node):
        order[:2] = order[1::-1]
    return order[flow.pick(node, place, len(order))]


def _to_product(node: fx.Node) -> bool:
    """Whether what the node makes is soon multiplied with another value, as heads are."""
    front = [node]
    for _ in range(_STEPS_TO_PRODUCT):
        front = [user for each in front for user in each.users]
        if any(user.target in _PRODUCTS for user in front):
            return True
    return False


def _merge(flow: Flow, node: fx.Node, labels: Sequence[Label], sizes: Sequence[int]) -> Label:
    """The label of a dimension made of factors, of which one may carry atoms: the widest."""
    active = [k for k, label in enumerate(labels) if label is not None]
    if not active:
        return None
    active.sort(key=lambda k: -sizes[k])
    flow.atoms.pin([labels[k] for k in active[1:]], "is merged with another dimension that shrinks", node)
    label = labels[active[0]]
    assert label is not None
    before, after = prod(sizes[: active[0]]), prod(sizes[active[0] + 1 :])
    spread: Ints = np.tile(label.repeat(after), before)
    return spread


def _sizes_read(flow: Flow, node: fx.Node, found: Sequence[Label]) -> None:
    """A size that the graph computes cannot be rewritten."""
    computed = [label for size, label in zip(node.args[1], found) if isinstance(size, fx.Node)]  # type: ignore[arg-type, call-overload]
    flow.atoms.pin(computed, "has a size that the graph computes", node)


def new_sizes(cut: Cut, node: fx.Node) -> Changes:
    """Sizes after the cut."""
    return {1: resized(node.args[1], cut.flow.of(node), cut)}  # type: ignore[arg-type]


RULES = {aten.reshape.default: Rule(reshape, new_sizes)}
