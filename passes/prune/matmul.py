"""Labels of products of two values: matmul and attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.passes.prune.atoms import Dims, Label
from fxc.passes.prune.flow import Changes, Cut, Flow, Rule, unknown

aten = torch.ops.aten


def matmul(flow: Flow, node: fx.Node) -> Dims:
    """matmul(a […, n, k], b […, k, m]): k meets k, leading dimensions meet as in broadcasting."""
    a, b = node.args[:2]
    left, right = flow.of(a), flow.of(b)
    if not left or not right:
        return unknown(flow, node)
    flow.atoms.tie(left[-1], right[-2] if len(right) > 1 else right[0], node)
    lead = _leading(flow, node, a, b)
    return (*lead, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))


def _leading(flow: Flow, node: fx.Node, *operands: Any) -> Dims:
    """The labels of all dimensions but the last two, from values that are broadcast against each other."""
    rank = max(len(flow.of(x)) for x in operands)
    return tuple(_meet(flow, node, operands, back) for back in range(rank, 2, -1))


def _meet(flow: Flow, node: fx.Node, operands: Any, back: int) -> Label:
    wide = [flow.of(x)[-back] for x in operands if len(flow.of(x)) >= back and flow.shape(x)[-back] != 1]
    for other in wide[1:]:
        flow.atoms.tie(wide[0], other, node)
    return None if not wide or any(label is None for label in wide) else wide[0]


def added(flow: Flow, node: fx.Node) -> Dims:
    """addmm, baddbmm(bias, a, b): the product of a and b, and what is added to it with broadcasting."""
    bias, a, b = node.args[:3]
    flow.atoms.tie(flow.of(a)[-1], flow.of(b)[-2], node)
    product = [*_leading(flow, node, a, b), flow.of(a)[-2], flow.of(b)[-1]]
    for back, label in enumerate(reversed(flow.of(bias)), 1):
        if flow.shape(bias)[-back] > 1:
            flow.atoms.tie(product[-back], label, node)
            product[-back] = product[-back] if label is not None else None
    return tuple(product)


def attention(flow: Flow, node: fx.Node) -> Dims:
    """attention(q […, l, e], k […, s, e], v […, s, w]) -> […, l, w]."""
    query, key, value, mask = node.args[:4]
    if node.kwargs.get("enable_gqa"):
        return unknown(flow, node)
    flow.atoms.tie(flow.of(query)[-1], flow.of(key)[-1], node)
    flow.atoms.tie(flow.of(key)[-2], flow.of(value)[-2], node)
    flow.atoms.pin((flow.of(key)[-2],), "is what a softmax is taken over", node)
    masks = [mask] if isinstance(mask, fx.Node) else []
    lead = _leading(flow, node, query, key, value, *masks)
    for one in masks:
        flow.atoms.pin(flow.of(one)[-2:], "is a mask's", node)
        flow.atoms.pin((flow.of(query)[-2], flow.of(key)[-2]), "meets a mask", node)
    return (*lead, flow.of(query)[-2], flow.of(value)[-1])


def written_scale(cut: Cut, node: fx.Node) -> Changes:
    """The scale that the original width stood for, once the width is another."""
    query = node.args[0]
    width = cut.flow.shape(query)[-1]
    if node.kwargs.get("scale") is not None or cut.shape(query)[-1] == width:
        return {}
    return {"scale": float(width) ** -0.5}


RULES = {
    **dict.fromkeys((aten.matmul.default, aten.bmm.default, aten.mm.default), Rule(matmul)),
    **dict.fromkeys((aten.addmm.default, aten.baddbmm.default), Rule(added)),
    aten.scaled_dot_product_attention.default: Rule(attention, written_scale),
}
