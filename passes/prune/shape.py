"""Labels of operators that arrange dimensions: permute, slice, select, concat, expand and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from fxc.passes.prune.atoms import Dims, Label
from fxc.passes.prune.flow import (
    Changes,
    Cut,
    Flow,
    Rule,
    int_argument,
    list_argument,
    resized,
    tensor_argument,
    unknown,
)

aten = torch.ops.aten


def permute(flow: Flow, node: fx.Node) -> Dims:
    """permute(x, dims)."""
    dims = flow.of(tensor_argument(node))
    return tuple(dims[d] for d in node.args[1])  # type: ignore[union-attr, index, misc]


def unsqueeze(flow: Flow, node: fx.Node) -> Dims:
    """unsqueeze(x, dim)."""
    dims, dim = list(flow.of(tensor_argument(node))), int_argument(node, 1)
    dims.insert(dim % (len(dims) + 1), None)
    return tuple(dims)


def squeeze(flow: Flow, node: fx.Node) -> Dims:
    """squeeze.dims(x, dims): those of them that have size 1."""
    source = tensor_argument(node)
    gone = {d for d in node.args[1] if flow.shape(source)[d] == 1}  # type: ignore[union-attr]
    return tuple(label for d, label in enumerate(flow.of(source)) if d not in gone)


def cat(flow: Flow, node: fx.Node) -> Dims:
    """cat([x, y, …], dim): the labels follow each other along ``dim``, and meet along the others."""
    parts: Sequence[fx.Node] = [x for x in node.args[0] if flow.shape(x) != (0,)]  # type: ignore[union-attr, assignment]
    dim = int_argument(node, 1) % node.meta["val"].dim()
    columns = list(zip(*(flow.of(x) for x in parts)))
    return tuple(
        _joined(flow, node, column, [flow.shape(x)[dim] for x in parts])
        if d == dim
        else _met(flow, node, column)
        for d, column in enumerate(columns)
    )


def _joined(flow: Flow, node: fx.Node, labels: Sequence[Label], sizes: Sequence[int]) -> Label:
    if all(label is None for label in labels):
        return None
    filled = [_staying(flow, node, size) if label is None else label for label, size in zip(labels, sizes)]
    return np.concatenate(filled)


def _staying(flow: Flow, node: fx.Node, size: int) -> Any:
    flow.atoms.count += size
    atoms = np.arange(flow.atoms.count - size, flow.atoms.count, dtype=np.int64)
    flow.atoms.pin((atoms,), "comes from a dimension that cannot shrink", node)
    return atoms


def _met(flow: Flow, node: fx.Node, labels: Sequence[Label]) -> Label:
    for other in labels[1:]:
        flow.atoms.tie(labels[0], other, node)
    return None if any(label is None for label in labels) else labels[0]


def stack(flow: Flow, node: fx.Node) -> Dims:
    """stack([x, y, …], dim)."""
    rank = node.meta["val"].dim()
    dims = [_met(flow, node, column) for column in zip(*(flow.of(x) for x in node.args[0]))]  # type: ignore[union-attr, arg-type]
    dims.insert(int_argument(node, 1) % rank, None)
    return tuple(dims)


def slice_(flow: Flow, node: fx.Node) -> Dims:
    """slice(x, dim, start, end, step)."""
    source, dim, start, end, step = node.args
    dims: list[Label] = list(flow.of(source))
    label = dims[dim]
    if label is None:
        return tuple(dims)
    part = label[start:end:step] if isinstance(start, int) and isinstance(end, int) else None
    if part is None or (step != 1 and len(part) > 1):
        flow.atoms.pin((label,), "is sliced in steps, or by computed bounds", node)
        part = None
    elif len(part) < 2:
        flow.atoms.pin((part,), "is one channel", node)
        part = None
    dims[dim] = part
    return tuple(dims)


def new_bounds(cut: Cut, node: fx.Node) -> Changes:
    """Bounds counted among the indices that are left."""
    source, dim, start, end, _ = node.args
    label = cut.flow.of(source)[dim]
    if label is None:
        return {}
    before = np.concatenate([[0], np.cumsum(cut.kept(label))])
    return {2: int(before[min(start, len(label))]), 3: int(before[min(end, len(label))])}


def select(flow: Flow, node: fx.Node) -> Dims:
    """select(x, dim, index): the selected index stays, the others may go."""
    source, dim, index = node.args
    label = flow.of(source)[dim]
    if label is not None:
        picked = label[index : index + 1] if isinstance(index, int) and index >= 0 else label
        flow.atoms.pin((picked,), "is selected by its index", node)
    return tuple(each for d, each in enumerate(flow.of(source)) if d != dim)


def new_index(cut: Cut, node: fx.Node) -> Changes:
    """The index among those that are left."""
    source, dim, index = node.args
    label = cut.flow.of(source)[dim]
    return {} if label is None else {2: int(np.count_nonzero(cut.kept(label)[:index]))}


def expand(flow: Flow, node: fx.Node) -> Dims:
    """expand(x, sizes): a dimension of size 1 that is repeated may be repeated less often."""
    source, sizes = tensor_argument(node), node.args[1]
    new = flow.shape(node)
    padded = (
        *((1, None) for _ in range(len(new) - len(flow.shape(source)))),
        *zip(flow.shape(source), flow.of(source)),
    )
    return tuple(
        label if size == want else flow.atoms.fresh(want) if isinstance(given, int) else None
        for (size, label), want, given in zip(padded, new, sizes)  # type: ignore[arg-type, call-overload]
    )


def new_sizes(cut: Cut, node: fx.Node) -> Changes:
    """Sizes after the cut."""
    return {1: resized(node.args[1], cut.flow.of(node), cut)}  # type: ignore[arg-type]


def repeat(flow: Flow, node: fx.Node) -> Dims:
    """repeat(x, times): tiles."""
    source, times = tensor_argument(node), list_argument(node, 1)
    if not all(isinstance(t, int) for t in times):
        return unknown(flow, node)
    dims = (*(None for _ in range(len(times) - len(flow.of(source)))), *flow.of(source))
    return tuple(None if label is None else np.tile(label, t) for label, t in zip(dims, times))


def flip(flow: Flow, node: fx.Node) -> Dims:
    """flip(x, dims): what is left is in the reversed order too."""
    dims = flow.of(tensor_argument(node))
    turned = {d % len(dims) for d in node.args[1]}  # type: ignore[union-attr, operator]
    return tuple(label[::-1] if label is not None and d in turned else label for d, label in enumerate(dims))


def roll(flow: Flow, node: fx.Node) -> Dims:
    """roll(x, shifts, dims): a rolled dimension keeps its size."""
    dims = flow.of(tensor_argument(node))
    rolled = {d % len(dims) for d in node.args[2]} or set(range(len(dims)))  # type: ignore[union-attr, operator]
    flow.atoms.pin([dims[d] for d in rolled], "is rolled", node)
    return tuple(None if d in rolled else label for d, label in enumerate(dims))


def size_of(flow: Flow, node: fx.Node) -> Dims:
    """sym_size(x, dim): a size that the graph goes on to compute with."""
    source, dim = node.args
    flow.atoms.pin((flow.of(source)[dim],), "has a size that the graph computes with", node)
    return ()


RULES = {
    aten.permute.default: Rule(permute),
    aten.unsqueeze.default: Rule(unsqueeze),
    aten.squeeze.dims: Rule(squeeze),
    aten.cat.default: Rule(cat),
    aten.stack.default: Rule(stack),
    aten.slice.Tensor: Rule(slice_, new_bounds),
    aten.select.int: Rule(select, new_index),
    aten.expand.default: Rule(expand, new_sizes),
    aten.repeat.default: Rule(repeat),
    aten.flip.default: Rule(flip),
    aten.roll.default: Rule(roll),
    aten.sym_size.int: Rule(size_of),
}
