"""Activations and pooling from their pieces."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule, producer
from fxc.passes.spelling import Call, Spelled, Spelling
from fxc.passes.values import is_floating, rank

aten = torch.ops.aten


def mean_to_pool(node: fx.Node, editor: Editor) -> Spelled:
    """mean(x, [2, 3], keepdim) -> adaptive_avg_pool2d(x, [1, 1]), with squeeze.dims behind it without keepdim"""
    x, dims, keepdim = node.args
    if rank(x) != 4 or dims is None or sorted(dims) != [2, 3] or node.kwargs or not is_floating(x):
        return None
    if keepdim:
        return Call(aten.adaptive_avg_pool2d.default, (x, [1, 1]))
    pool = editor.call(aten.adaptive_avg_pool2d.default, (x, [1, 1]), origins=(node,), suffix=".pool")
    return Call(aten.squeeze.dims, (pool, [2, 3]))


def gate(node: fx.Node, editor: Editor) -> Spelled:
    """x * sigmoid(x) -> silu(x);  x * hardsigmoid(x) -> hardswish(x)"""
    for x, inner in (node.args, node.args[::-1]):
        sigmoid = producer(inner, aten.sigmoid.default, aten.hardsigmoid.default)
        if sigmoid is not None and sigmoid.args[0] is x and len(sigmoid.users) == 1 and is_floating(x):
            editor.absorb(node, sigmoid)
            soft = sigmoid.target is aten.sigmoid.default
            return Call(aten.silu.default if soft else aten.hardswish.default, (x,))
    return None


def hard_sigmoid(node: fx.Node, editor: Editor) -> Spelled:
    """hardtanh(x + 3, 0, 6) / 6 -> hardsigmoid(x);  likewise * (1 / 6)"""
    ramp = _ramp(node.args[0])
    if ramp is None or not _is_sixth(node):
        return None
    editor.absorb(node, *ramp)
    return Call(aten.hardsigmoid.default, (ramp[0].args[0],))


def hard_swish(node: fx.Node, editor: Editor) -> Spelled:
    """x * hardtanh(x + 3, 0, 6) / 6 -> hardswish(x);  likewise * (1 / 6)"""
    product = producer(node.args[0], aten.mul.Tensor)
    if product is None or len(product.users) > 1 or not _is_sixth(node):
        return None
    for x, inner in (product.args, product.args[::-1]):
        ramp = _ramp(inner)
        if ramp is not None and ramp[0].args[0] is x:
            editor.absorb(node, *ramp, product)
            return Call(aten.hardswish.default, (x,))
    return None


def _is_sixth(node: fx.Node) -> bool:
    number = node.args[1]
    factor = number if node.target is aten.mul.Scalar else 1 / number if number else 0
    return is_floating(node) and abs(factor * 6 - 1) < 1e-6


def _ramp(node: Any) -> tuple[fx.Node, fx.Node] | None:
    """The two nodes of ``clamp(x + 3, 0, 6)``, read by nothing else."""
    clamp = producer(node, aten.hardtanh.default, aten.clamp.default)
    if clamp is None or tuple(clamp.args[1:]) != (0, 6) or len(clamp.users) > 1:
        return None
    shifted = producer(clamp.args[0], aten.add.Scalar)
    return None if shifted is None or shifted.args[1] != 3 else (shifted, clamp)


def scaled_term(node: fx.Node, editor: Editor) -> Spelled:
    """add(x, y, alpha=a) -> x + y * a;  likewise sub"""
    alpha = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return None
    term = editor.call(aten.mul.Scalar, (node.args[1], alpha), origins=(node,), suffix=".term")
    return Call(node.target, (node.args[0], term))


RULES: tuple[Rule, ...] = (
    Spelling("mean_to_pool", (aten.mean.dim,), mean_to_pool),
    Spelling("gate", (aten.mul.Tensor,), gate),
    Spelling("hard_swish", (aten.mul.Scalar, aten.div.Scalar), hard_swish),
    Spelling("hard_sigmoid", (aten.mul.Scalar, aten.div.Scalar), hard_sigmoid),
    Spelling("scaled_term", (aten.add.Tensor, aten.sub.Tensor), scaled_term),
)
