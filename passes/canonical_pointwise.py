"""Canonical spellings of element-wise operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Spelled, Spelling
from fxc.passes.values import dtype, is_floating, is_tensor, same_tensor_type

aten = torch.ops.aten

_SCALAR = {
    aten.add.Tensor: aten.add.Scalar,
    aten.sub.Tensor: aten.sub.Scalar,
    aten.mul.Tensor: aten.mul.Scalar,
    aten.div.Tensor: aten.div.Scalar,
}
"""Operators that take a Python number where a tensor is meant, and their form for numbers."""
_COMMUTES = (aten.add.Tensor, aten.mul.Tensor)
_NEUTRAL = {aten.add.Scalar: 0, aten.sub.Scalar: 0, aten.mul.Scalar: 1, aten.div.Scalar: 1}
_SYNONYMS = {
    aten.multiply.Tensor: aten.mul.Tensor,
    aten.multiply.Scalar: aten.mul.Scalar,
    aten.subtract.Tensor: aten.sub.Tensor,
    aten.subtract.Scalar: aten.sub.Scalar,
    aten.divide.Tensor: aten.div.Tensor,
    aten.divide.Scalar: aten.div.Scalar,
    aten.true_divide.Tensor: aten.div.Tensor,
    aten.true_divide.Scalar: aten.div.Scalar,
    aten.negative.default: aten.neg.default,
    aten.concat.default: aten.cat.default,
    aten.concatenate.default: aten.cat.default,
    aten.clip.default: aten.clamp.default,
    aten.absolute.default: aten.abs.default,
    aten.__and__.Tensor: aten.bitwise_and.Tensor,
    aten.__or__.Tensor: aten.bitwise_or.Tensor,
}
"""Two names of one operator."""


def number(node: fx.Node, editor: Editor) -> Spelled:
    """add.Tensor(x, 2) -> add.Scalar(x, 2);  likewise sub, mul, div"""
    x, other = node.args[:2]
    alpha = node.kwargs.get("alpha", 1)
    if isinstance(x, (int, float)) and node.target in _COMMUTES and alpha == 1:
        x, other = other, x
    if not is_tensor(x) or not isinstance(other, (int, float)):
        return None
    args = (
        (x, other * alpha)
        if node.target is aten.div.Tensor or node.target is aten.mul.Tensor
        else (x, other * alpha, 1)
    )
    return Call(_SCALAR[node.target], args)


def neutral(node: fx.Node, editor: Editor) -> Spelled:
    """x + 0, x - 0, x * 1, x / 1 -> x, where the dtype stays"""
    x = node.args[0]
    return x if node.args[1] == _NEUTRAL[node.target] and same_tensor_type(node, x) else None


def reversed_sub(node: fx.Node, editor: Editor) -> Spelled:
    """rsub(x, y) -> y - x;  a number becomes a constant of no dimensions"""
    x, other, alpha = _rsub_args(node)
    if alpha != 1 or not is_floating(x):
        return None
    if isinstance(other, (int, float)):
        value = torch.tensor(other, dtype=dtype(x), device=x.meta["val"].device)
        if dtype(x).itemsize < 4 and value.item() != other:
            # The kernel subtracts from the number itself, in float32.
            return None
        other = editor.constant(value, f"{node.name}.minuend", origins=(node,))
    return Call(aten.sub.Tensor, (other, x))


def _rsub_args(node: fx.Node) -> tuple[fx.Node, Any, Any]:
    x, other = node.args[:2]
    return x, other, node.args[2] if len(node.args) > 2 else node.kwargs.get("alpha", 1)


def relu6(node: fx.Node, editor: Editor) -> Spelled:
    """relu6(x) -> hardtanh(x, 0, 6)"""
    return Call(aten.hardtanh.default, (node.args[0], 0.0, 6.0))


def clamp(node: fx.Node, editor: Editor) -> Spelled:
    """clamp_min(x, a) -> clamp(x, a, None);  clamp_max(x, b) -> clamp(x, None, b)"""
    bounds = (node.args[1], None) if node.target is aten.clamp_min.default else (None, node.args[1])
    return Call(aten.clamp.default, (node.args[0], *bounds))


def relu(node: fx.Node, editor: Editor) -> Spelled:
    """clamp(x, 0, None) -> relu(x);  threshold(x, 0, 0) -> relu(x)"""
    bounds = tuple(node.args[1:])
    wanted = (0, 0) if node.target is aten.threshold.default else (0, None)
    return Call(aten.relu.default, (node.args[0],)) if bounds == wanted and is_floating(node) else None


def same_pool(node: fx.Node, editor: Editor) -> Spelled:
    """adaptive_avg_pool(x, x's own size) -> x"""
    return node.args[0] if same_tensor_type(node, node.args[0]) else None


def float_bounds(node: fx.Node, editor: Editor) -> Spelled:
    """hardtanh(x, 0, 6) -> hardtanh(x, 0.0, 6.0)"""
    bounds = tuple(node.args[1:])
    if all(isinstance(b, float) for b in bounds):
        return None
    return Call(node.target, (node.args[0], *map(float, bounds)))


def renamed(node: fx.Node, editor: Editor) -> Spelled:
    """multiply, subtract, divide, negative, concat, clip, absolute -> mul, sub, div, neg, cat, clamp, abs"""
    return Call(_SYNONYMS[node.target], tuple(node.args), dict(node.kwargs))


class Assertions(Rule):
    """_assert_tensor_metadata(x, …) -> nothing: export has checked dtype and device, and they are in the graph"""

    name = "assertions"
    anchors = (aten._assert_tensor_metadata.default,)

    def rewrite(self, match: Any, editor: Editor) -> None:
        """Erase it."""
        editor.erase(match)


RULES: tuple[Rule, ...] = (
    Assertions(),
    Spelling("renamed", tuple(_SYNONYMS), renamed),
    Spelling("number", tuple(_SCALAR), number),
    Spelling("neutral", tuple(_NEUTRAL), neutral),
    Spelling("reversed_sub", (aten.rsub.Scalar, aten.rsub.Tensor), reversed_sub),
    Spelling("relu6", (aten.relu6.default,), relu6),
    Spelling("clamp", (aten.clamp_min.default, aten.clamp_max.default), clamp),
    Spelling("relu", (aten.clamp.default, aten.threshold.default), relu),
    Spelling("bounds", (aten.hardtanh.default,), float_bounds),
    Spelling("same_pool", (aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool1d.default), same_pool),
)
