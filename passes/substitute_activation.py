"""Activations in terms of simpler operators."""

from __future__ import annotations

import math

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import dtype, rank

aten = torch.ops.aten


def silu(node: fx.Node, editor: Editor) -> Spelled:
    """silu(x) -> x * sigmoid(x)"""
    x, op = node.args[0], Expand(node, editor)
    return Call(aten.mul.Tensor, (x, op(aten.sigmoid.default, x)))


def hardswish(node: fx.Node, editor: Editor) -> Spelled:
    """hardswish(x) -> x * hardsigmoid(x)"""
    x, op = node.args[0], Expand(node, editor)
    return Call(aten.mul.Tensor, (x, op(aten.hardsigmoid.default, x)))


def hardsigmoid(node: fx.Node, editor: Editor) -> Spelled:
    """hardsigmoid(x) -> clamp(x + 3, 0, 6) * (1 / 6)"""
    op = Expand(node, editor)
    shifted = op(aten.add.Scalar, node.args[0], 3.0, 1)
    return Call(aten.mul.Scalar, (op(aten.clamp.default, shifted, 0.0, 6.0), 1 / 6))


def hardtanh(node: fx.Node, editor: Editor) -> Spelled:
    """hardtanh(x, a, b) -> clamp(x, a, b), which is what relu6 is"""
    return Call(aten.clamp.default, tuple(node.args))


def gelu(node: fx.Node, editor: Editor) -> Spelled:
    """gelu(x) -> x * 0.5 * (1 + erf(x / sqrt(2)))"""
    if node.kwargs:
        return None
    x, op = node.args[0], Expand(node, editor)
    bell = op(aten.erf.default, op(aten.mul.Scalar, x, math.sqrt(0.5)))
    return _half_gate(x, bell, op)


def gelu_tanh(node: fx.Node, editor: Editor) -> Spelled:
    """gelu(x, "tanh") -> x * 0.5 * (1 + tanh(sqrt(2 / pi) * x * (1 + 0.044715 * x * x)))"""
    if node.kwargs.get("approximate") != "tanh":
        return None
    x, op = node.args[0], Expand(node, editor)
    cubic = op(aten.add.Scalar, op(aten.mul.Scalar, op(aten.mul.Tensor, x, x), 0.044715), 1.0, 1)
    scaled = op(aten.mul.Scalar, op(aten.mul.Tensor, x, cubic), math.sqrt(2 / math.pi))
    return _half_gate(x, op(aten.tanh.default, scaled), op)


def _half_gate(x: fx.Node, bell: fx.Node, op: Expand) -> Call:
    gate = op(aten.mul.Scalar, op(aten.add.Scalar, bell, 1.0, 1), 0.5)
    return Call(aten.mul.Tensor, (x, gate))


def mish(node: fx.Node, editor: Editor) -> Spelled:
    """mish(x) -> x * tanh(softplus(x))"""
    x, op = node.args[0], Expand(node, editor)
    return Call(aten.mul.Tensor, (x, op(aten.tanh.default, op(aten.softplus.default, x, 1, 20))))


def leaky_relu(node: fx.Node, editor: Editor) -> Spelled:
    """leaky_relu(x, a) -> maximum(x, x * a), for 0 <= a <= 1"""
    x, slope = node.args
    if not 0 <= slope <= 1:
        return None
    return Call(aten.maximum.default, (x, Expand(node, editor)(aten.mul.Scalar, x, slope)))


def prelu(node: fx.Node, editor: Editor) -> Spelled:
    """prelu(x, w) -> relu(x) - relu(-x) * w"""
    x, weight = node.args
    op = Expand(node, editor)
    if rank(weight) == 1 and rank(x) > 2:
        weight = op.shaped(weight, [1, -1, *[1] * (rank(x) - 2)])
    below = op(aten.mul.Tensor, op(aten.relu.default, op(aten.neg.default, x)), weight)
    return Call(aten.sub.Tensor, (op(aten.relu.default, x), below))


def square(node: fx.Node, editor: Editor) -> Spelled:
    """pow(x, 2) -> x * x;  pow(x, 0.5) -> sqrt(x)"""
    x, exponent = node.args
    if exponent == 2:
        return Call(aten.mul.Tensor, (x, x))
    return Call(aten.sqrt.default, (x,)) if exponent == 0.5 and dtype(x).is_floating_point else None


def divide(node: fx.Node, editor: Editor) -> Spelled:
    """x / c -> x * (1 / c)"""
    x, divisor = node.args
    if not divisor or not dtype(x).is_floating_point:
        return None
    return Call(aten.mul.Scalar, (x, 1 / divisor))


def masked_fill(node: fx.Node, editor: Editor) -> Spelled:
    """masked_fill(x, mask, c) -> where(mask, c, x)"""
    x, mask, value = node.args
    filler = torch.tensor(value, dtype=dtype(x), device=x.meta["val"].device)
    return Call(aten.where.self, (mask, Expand(node, editor).constant(filler, "value"), x))


RULES: tuple[Rule, ...] = (
    Spelling("silu", (aten.silu.default,), silu),
    Spelling("hardswish", (aten.hardswish.default,), hardswish),
    Spelling("hardsigmoid", (aten.hardsigmoid.default,), hardsigmoid),
    Spelling("hardtanh", (aten.hardtanh.default,), hardtanh),
    Spelling("gelu", (aten.gelu.default,), gelu),
    Spelling("gelu_tanh", (aten.gelu.default,), gelu_tanh),
    Spelling("mish", (aten.mish.default,), mish),
    Spelling("leaky_relu", (aten.leaky_relu.default,), leaky_relu),
    Spelling("prelu", (aten.prelu.default,), prelu),
    Spelling("square", (aten.pow.Tensor_Scalar,), square),
    Spelling("divide", (aten.div.Scalar,), divide),
    Spelling("masked_fill", (aten.masked_fill.Scalar,), masked_fill),
)
