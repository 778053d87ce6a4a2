"""Multiply-accumulates per node, from the shapes in ``meta["val"]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return macs_of(node, _shape)


def macs_of(node: fx.Node, shape: Callable[[fx.Node], Sequence[int]]) -> int:
    """As :func:`macs`, for the shapes that ``shape`` gives to the node and to what it reads."""
    if node.op != "call_function":
        return 0
    first, second = _operand(node, 0), _operand(node, 1)
    if node.target in CONVOLUTIONS:
        return prod(shape(node)) * prod(shape(second)[1:])
    if node.target in TRANSPOSED:
        return prod(shape(first)) * prod(shape(second)[1:])
    if node.target in LINEAR:
        return prod(shape(node)) * shape(second)[-1]
    if node.target in MATMUL:
        return prod(shape(node)) * shape(first)[-1]
    if node.target in ATTENTION:
        return 2 * prod(shape(first)) * shape(second)[-2]
    return 0


def _operand(node: fx.Node, place: int) -> Any:
    return node.args[place] if place < len(node.args) else None


def _shape(node: fx.Node) -> list[int]:
    return [batch_of_one(d) for d in node.meta["val"].shape]


def batch_of_one(dim: Any) -> int:
    """A dimension for batch one: a symbolic size is evaluated with every symbol at one."""
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    if expression.is_symbol:
        return 1
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
