"""Labels of reductions, softmax and cumulative sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fxc.compiler.origin import op_name
from fxc.passes.prune.atoms import Dims
from fxc.passes.prune.flow import Flow, Rule, int_argument, tensor_argument

aten = torch.ops.aten


def reduction(dims_at: int, keep_at: int, *, sums: bool = False) -> Callable[[Flow, fx.Node], Dims]:
    """The rule of a reduction.

    Args:
        dims_at, keep_at: positions of the arguments ``dim`` and ``keepdim``; the latter may be given by name alone.
        sums: zeros do not count: without the removed indices the result is what it is with zeros in their place.
    """

    def label(flow: Flow, node: fx.Node) -> Dims:
        dims = flow.of(tensor_argument(node))
        gone = _gone(node.args[dims_at] if len(node.args) > dims_at else None, len(dims))
        if not sums:
            flow.atoms.statistic([dims[d] for d in gone], f"{op_name(node)} over channels", node)
        keep = node.args[keep_at] if len(node.args) > keep_at else node.kwargs.get("keepdim")
        if keep:
            return tuple(None if d in gone else each for d, each in enumerate(dims))
        return tuple(each for d, each in enumerate(dims) if d not in gone)

    return label


def _gone(dims: Any, rank: int) -> set[int]:
    if dims is None or dims == []:
        return set(range(rank))
    return {d % rank for d in ([dims] if isinstance(dims, int) else dims)} if rank else set()


def softmax(flow: Flow, node: fx.Node) -> Dims:
    """softmax(x, dim): what it is taken over stays, since a zero among them is not the same as none."""
    dims, dim = flow.of(tensor_argument(node)), int_argument(node, 1)
    flow.atoms.pin((dims[dim],), f"is what {op_name(node)} is taken over", node)
    return tuple(None if d == dim % len(dims) else each for d, each in enumerate(dims))


def vector_norm(flow: Flow, node: fx.Node) -> Dims:
    """linalg_vector_norm(x, ord, dim, keepdim): zeros do not count, unless it is the smallest or a count."""
    order = node.args[1]
    return reduction(2, 3, sums=isinstance(order, (int, float)) and order > 0)(flow, node)


def cumulative(flow: Flow, node: fx.Node) -> Dims:
    """cumsum(x, dim): positions matter, so the dimension stays."""
    dims, dim = flow.of(tensor_argument(node)), int_argument(node, 1)
    flow.atoms.pin((dims[dim],), f"is summed up along by {op_name(node)}", node)
    return tuple(None if d == dim % len(dims) else each for d, each in enumerate(dims))


def whole(flow: Flow, node: fx.Node) -> Dims:
    """A reduction of everything to one number."""
    flow.atoms.statistic(flow.of(tensor_argument(node)), f"{op_name(node)} over channels", node)
    return ()


RULES = {
    aten.mean.dim: Rule(reduction(1, 2)),
    aten.sum.dim_IntList: Rule(reduction(1, 2, sums=True)),
    aten.amax.default: Rule(reduction(1, 2)),
    aten.amin.default: Rule(reduction(1, 2)),
    aten.var.correction: Rule(reduction(1, 3)),
    aten.std.correction: Rule(reduction(1, 3)),
    aten.logsumexp.default: Rule(reduction(1, 2)),
    aten.linalg_vector_norm.default: Rule(vector_norm),
    aten.softmax.int: Rule(softmax),
    aten.log_softmax.int: Rule(softmax),
    aten.cumsum.default: Rule(cumulative),
    aten.mean.default: Rule(whole),
    aten.sum.default: Rule(whole),
}
"""Reductions that also return positions (``max.dim``, ``topk``, ``argmax``) have no rule: a position is no value."""
