"""Labels of convolutions, transposed ones and linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.passes.prune.atoms import Dims, Ints, Label
from fxc.passes.prune.flow import Changes, Cut, Flow, Rule

aten = torch.ops.aten

GROUPS, TRANSPOSED_GROUPS = 6, 6
"""Position of the argument that counts groups."""


def conv(flow: Flow, node: fx.Node) -> Dims:
    """conv(x, weight [out, in / groups, …], bias): inputs meet the weight's second axis, outputs are its first."""
    x, weight, bias, groups = node.args[0], node.args[1], node.args[2], int(node.args[GROUPS])  # type: ignore[arg-type]
    spatial = flow.shape(weight)[2:]
    dims, axis = flow.of(x), len(flow.of(x)) - len(spatial) - 1
    out, inner = flow.of(weight)[:2]
    _fixed(flow, node, dims[axis + 1 :], flow.of(weight)[2:])
    if groups == 1:
        flow.atoms.tie(dims[axis], inner, node)
    else:
        _groups(flow, node, dims[axis], out, inner, groups, flow.shape(weight)[0])
    _bias(flow, node, bias, out)
    return (*dims[:axis], out, *(None for _ in spatial))


def _groups(
    flow: Flow, node: fx.Node, source: Label, out: Label, inner: Label, groups: int, width: int
) -> None:
    """Every group loses the same channels; where a group has one channel on either side, whole groups go."""
    if inner is None or width == groups:
        _whole_groups(flow, node, source, out, inner, groups)
        return
    if source is None or out is None:
        flow.atoms.pin((source, out, inner), "meets a dimension that cannot shrink", node)
        return
    flow.atoms.tie(source.reshape(groups, -1), inner[None, :], node)
    flow.atoms.tie_all(out.reshape(groups, -1).T, node)


def _whole_groups(flow: Flow, node: fx.Node, source: Label, out: Label, inner: Label, groups: int) -> None:
    flow.atoms.pin((inner,), "lies inside groups of which each has one output", node)
    if source is None or out is None:
        flow.atoms.pin((source, out), "meets a dimension that cannot shrink", node)
        return
    ins = flow.atoms.tie_all(source.reshape(groups, -1), node)
    flow.atoms.tie(ins, flow.atoms.tie_all(out.reshape(groups, -1), node), node)


def conv_groups(cut: Cut, node: fx.Node) -> Changes:
    """As many groups as the channels that are left make of the weight's new second axis."""
    x, weight = node.args[0], node.args[1]
    inputs = cut.shape(x)[len(cut.flow.of(x)) - len(cut.shape(weight)) + 1]
    return {GROUPS: inputs // cut.shape(weight)[1]}


def conv_transpose(flow: Flow, node: fx.Node) -> Dims:
    """conv_transpose(x, weight [in, out / groups, …], bias): inputs meet the weight's first axis."""
    x, weight, bias, groups = (
        node.args[0], node.args[1], node.args[2], int(node.args[TRANSPOSED_GROUPS]),  # type: ignore[arg-type]
    )  # fmt: skip
    spatial = flow.shape(weight)[2:]
    dims, axis = flow.of(x), len(flow.of(x)) - len(spatial) - 1
    source, inner = flow.of(weight)[:2]
    _fixed(flow, node, dims[axis + 1 :], flow.of(weight)[2:])
    flow.atoms.tie(dims[axis], source, node)
    out = inner if groups == 1 else _transposed_groups(flow, node, source, inner, groups)
    _bias(flow, node, bias, out)
    return (*dims[:axis], out, *(None for _ in spatial))


def _transposed_groups(flow: Flow, node: fx.Node, source: Label, inner: Label, groups: int) -> Label:
    per_group = flow.shape(node.args[0])[-len(flow.shape(node.args[1])) + 1] // groups
    if inner is not None and per_group > 1:
        if source is not None:
            flow.atoms.tie_all(source.reshape(groups, -1).T, node)
        tiled: Ints = inner[None, :].repeat(groups, 0).ravel()
        return tiled
    flow.atoms.pin((inner,), "lies inside groups of which each has one input", node)
    if source is None:
        return None
    one_each = flow.atoms.tie_all(source.reshape(groups, -1), node)
    repeated: Ints = one_each.repeat(1 if inner is None else len(inner))
    return repeated


def transposed_groups(cut: Cut, node: fx.Node) -> Changes:
    """As many groups as the output channels that are left make of the weight's new second axis."""
    weight = node.args[1]
    outputs = cut.shape(node)[len(cut.flow.of(node)) - len(cut.shape(weight)) + 1]
    return {TRANSPOSED_GROUPS: outputs // cut.shape(weight)[1]}


def linear(flow: Flow, node: fx.Node) -> Dims:
    """linear(x, weight [out, in], bias): the last dimension."""
    x, weight, bias = node.args[:3]
    dims = flow.of(x)
    if len(flow.shape(weight)) == 1:
        flow.atoms.tie(dims[-1], flow.of(weight)[0], node)
        return dims[:-1]
    out, inner = flow.of(weight)
    flow.atoms.tie(dims[-1], inner, node)
    _bias(flow, node, bias, out)
    return (*dims[:-1], out)


def _bias(flow: Flow, node: fx.Node, bias: Any, out: Label) -> None:
    if isinstance(bias, fx.Node):
        flow.atoms.tie(out, flow.of(bias)[0], node)


def _fixed(flow: Flow, node: fx.Node, *dims: Dims) -> None:
    for each in dims:
        flow.atoms.pin(each, "is an axis that a kernel moves along", node)


RULES = {
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), Rule(conv, conv_groups)),
    **dict.fromkeys(
        (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input),
        Rule(conv_transpose, transposed_groups),
    ),
    aten.linear.default: Rule(linear),
}
