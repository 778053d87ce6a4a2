"""Labels of operators that compute element by element, and of copies."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from fxc.passes.prune.atoms import Dims, Label
from fxc.passes.prune.flow import Flow, Rule, int_argument, operands, same, tensor_argument

aten = torch.ops.aten


def pointwise(flow: Flow, node: fx.Node) -> Dims:
    """f(x, y, …) with broadcasting: indices that meet are tied."""
    read = list(operands((node.args, tuple(node.kwargs.values()))))
    rank = node.meta["val"].dim()
    return tuple(_meet(flow, node, read, back) for back in range(rank, 0, -1))


def _meet(flow: Flow, node: fx.Node, read: list[fx.Node], back: int) -> Label:
    """The label of the dimension ``back`` from the end."""
    wide = [x for x in read if x.meta["val"].dim() >= back and flow.shape(x)[-back] != 1]
    labels = [flow.of(x)[-back] for x in wide]
    for other in labels[1:]:
        flow.atoms.tie(labels[0], other, node)
    return None if not labels or any(label is None for label in labels) else labels[0]


def item(flow: Flow, node: fx.Node) -> Dims:
    """One of several results: those of an operator with a rule share its labels, the others cannot shrink."""
    return flow.of(tensor_argument(node)) or (None,) * node.meta["val"].dim()


def prelu(flow: Flow, node: fx.Node) -> Dims:
    """prelu(x, weight): one slope, or one for each channel of dimension 1."""
    x, slope = node.args
    if flow.shape(slope)[0] > 1:
        flow.atoms.tie(flow.of(x)[1], flow.of(slope)[0], node)
    return flow.of(x)


def glu(flow: Flow, node: fx.Node) -> Dims:
    """glu(x, dim): the first half times the sigmoid of the second, so both shrink alike."""
    dims, dim = flow.of(tensor_argument(node)), int_argument(node, 1)
    label = dims[dim]
    if label is None:
        return dims
    first, second = label[: len(label) // 2], label[len(label) // 2 :]
    flow.atoms.tie(first, second, node)
    return (*dims[:dim], first if len(first) > 1 else _alone(flow, node, first), *dims[dim:][1:])


def _alone(flow: Flow, node: fx.Node, label: Any) -> Label:
    flow.atoms.pin((label,), "is one channel", node)
    return None


RULES: dict[Any, Rule] = {
    torch.Tag.pointwise: Rule(pointwise),
    operator.getitem: Rule(item),
    aten.prelu.default: Rule(prelu),
    aten.glu.default: Rule(glu),
    **dict.fromkeys(
        (
            aten.hardswish.default, aten.log_sigmoid.default, aten.dropout.default, aten.feature_dropout.default,
            aten.alpha_dropout.default, aten.to.dtype, aten.to.device, aten.contiguous.default, aten.detach.default,
            aten.alias.default, aten.full_like.default, aten.zeros_like.default, aten.ones_like.default,
            aten.selu.default, aten.rrelu.default,
        ),
        Rule(same),
    ),
}  # fmt: skip
"""Operators that PyTorch tags as pointwise share the first rule; the others are named."""
