"""Multiply-accumulates per node, from the shapes in ``meta["val"]``."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
LINEAR = (aten.linear.default,)
MATMUL = (aten.matmul.default, aten.bmm.default, aten.mm.default)
WEIGHTED = CONVOLUTIONS + TRANSPOSED + LINEAR
ATTENTION = (aten.scaled_dot_product_attention.default,)


def macs(node: fx.Node) -> int:
    """Multiply-accumulates of one call for a batch of one; 0 for operators that are not conv, linear or matmul.

    A symbolic batch counts as one; the count follows the definition of each operator (dense, padding included).
    """
    if node.op != "call_function":
        return 0
    if node.target in CONVOLUTIONS:
        return _size(node.meta["val"]) * prod(_shape(node.args[1])[1:])
    if node.target in TRANSPOSED:
        return _size(_val(node.args[0])) * prod(_shape(node.args[1])[1:])
    if node.target in LINEAR:
        return _size(node.meta["val"]) * _shape(node.args[1])[-1]
    if node.target in MATMUL:
        return _size(node.meta["val"]) * _shape(node.args[0])[-1]
    if node.target in ATTENTION:
        query, key = _shape(node.args[0]), _shape(node.args[1])
        return 2 * prod(query) * key[-2]
    return 0


def _val(node: Any) -> Any:
    return node.meta["val"]


def _shape(node: Any) -> list[int]:
    return [_number(d) for d in _val(node).shape]


def _size(val: Any) -> int:
    return prod(_number(d) for d in val.shape)


def _number(dim: Any) -> int:
    """A dimension for batch one: a symbolic size is evaluated with every symbol at one."""
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    if expression.is_symbol:
        return 1
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
