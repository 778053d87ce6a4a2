"""Labels of operators that pick entries by a tensor of indices."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.passes.prune.atoms import Dims
from fxc.passes.prune.flow import Flow, Rule, unknown

aten = torch.ops.aten


def index(flow: Flow, node: fx.Node) -> Dims:
    """x[indices]: the indexed dimensions keep their size; neighbouring ones become those of the indices."""
    source, indices = node.args
    dims = flow.of(source)
    used = [d for d, each in enumerate(indices) if each is not None]
    if used != list(range(used[0], used[-1] + 1)) or any(_mask(indices[d]) for d in used):
        return unknown(flow, node)
    flow.atoms.pin([dims[d] for d in used], "is indexed by a tensor", node)
    _untouched(flow, node, [indices[d] for d in used])
    rank = max(indices[d].meta["val"].dim() for d in used)
    return (*dims[: used[0]], *(None for _ in range(rank)), *dims[used[-1] + 1 :])


def _mask(node: Any) -> bool:
    return bool(node.meta["val"].dtype == torch.bool)


def _untouched(flow: Flow, node: fx.Node, indices: list[Any]) -> None:
    for each in indices:
        flow.atoms.pin(flow.of(each), "is a tensor of indices", node)


def index_select(flow: Flow, node: fx.Node) -> Dims:
    """index_select(x, dim, indices)."""
    source, dim, indices = node.args
    dims = flow.of(source)
    flow.atoms.pin((dims[dim],), "is indexed by a tensor", node)
    _untouched(flow, node, [indices])
    return tuple(None if d == dim else label for d, label in enumerate(dims))


def embedding(flow: Flow, node: fx.Node) -> Dims:
    """embedding(weight, indices): the rows stay, the columns follow."""
    weight, indices = node.args[:2]
    flow.atoms.pin((flow.of(weight)[0],), "is indexed by a tensor", node)
    _untouched(flow, node, [indices])
    return (*(None for _ in flow.of(indices)), flow.of(weight)[1])


RULES = {
    aten.index.Tensor: Rule(index),
    aten.index_select.default: Rule(index_select),
    aten.embedding.default: Rule(embedding),
}
