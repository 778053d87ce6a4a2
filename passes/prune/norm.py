"""Labels of normalizations."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.origin import op_name
from fxc.passes.prune.atoms import Dims
from fxc.passes.prune.flow import Changes, Cut, Flow, Rule, int_argument, tensor_argument

aten = torch.ops.aten


def per_channel(flow: Flow, node: fx.Node) -> Dims:
    """batch_norm and instance_norm (x, weight, bias, mean, var, training, …): every channel by itself."""
    dims = flow.of(tensor_argument(node))
    if node.args[5]:
        flow.atoms.statistic((dims[0], *dims[2:]), f"{op_name(node)} over channels", node)
    for tensor in node.args[1:5]:
        if isinstance(tensor, fx.Node):
            flow.atoms.tie(dims[1], flow.of(tensor)[0], node)
    return dims


def over_trailing(weights: range) -> Any:
    """The rule of layer_norm and rms_norm (x, normalized_shape, weight, …): a statistic over the last dimensions."""

    def label(flow: Flow, node: fx.Node) -> Dims:
        dims = flow.of(tensor_argument(node))
        last = dims[-len(node.args[1]) :]  # type: ignore[arg-type]
        flow.atoms.statistic(last, f"{op_name(node)} over channels", node)
        for tensor in (node.args[i] for i in weights if i < len(node.args)):
            if isinstance(tensor, fx.Node):
                for a, b in zip(last, flow.of(tensor)):
                    flow.atoms.tie(a, b, node)
        return dims

    return label


def normalized_shape(cut: Cut, node: fx.Node) -> Changes:
    """The sizes of the last dimensions that are left."""
    count = len(node.args[1])  # type: ignore[arg-type]
    return {1: list(cut.shape(tensor_argument(node))[-count:])}


def group_norm(flow: Flow, node: fx.Node) -> Dims:
    """group_norm(x, groups, weight, bias): every group loses the same channels; a group of one channel goes whole."""
    dims, groups = flow.of(tensor_argument(node)), int_argument(node, 1)
    label = dims[1]
    flow.atoms.statistic(dims[2:], "group_norm over positions", node)
    for tensor in node.args[2:4]:
        if isinstance(tensor, fx.Node):
            flow.atoms.tie(label, flow.of(tensor)[0], node)
    if label is not None and len(label) > groups:
        flow.atoms.tie_all(label.reshape(groups, -1).T, node)
        flow.atoms.statistic((label,), "group_norm over channels", node)
    return dims


def norm_groups(cut: Cut, node: fx.Node) -> Changes:
    """As many groups as before, or as channels if each had one."""
    source = tensor_argument(node)
    alone = cut.flow.shape(source)[1] == node.args[1]
    return {1: cut.shape(source)[1]} if alone else {}


def weight_norm(flow: Flow, node: fx.Node) -> Dims:
    """_weight_norm(v, g, dim): v over its norm along the other dimensions, in which zeros do not count, times g."""
    v, g = node.args[:2]
    for a, b, size in zip(flow.of(v), flow.of(g), flow.shape(g)):
        if size > 1:
            flow.atoms.tie(a, b, node)
    return flow.of(v)


RULES = {
    aten.batch_norm.default: Rule(per_channel),
    aten.instance_norm.default: Rule(per_channel),
    aten._weight_norm.default: Rule(weight_norm),
    aten.layer_norm.default: Rule(over_trailing(range(2, 4)), normalized_shape),
    aten.rms_norm.default: Rule(over_trailing(range(2, 3)), normalized_shape),
    aten.group_norm.default: Rule(group_norm, norm_groups),
}
