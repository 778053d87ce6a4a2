"""What a node's fake value says about it. Nothing here evaluates a symbolic size, which would specialise the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx


def shape(node: fx.Node) -> tuple[Any, ...]:
    """The node's shape; an entry is an int or a ``SymInt``."""
    return tuple(node.meta["val"].shape)


def is_tensor(node: Any) -> bool:
    """Whether ``node`` is a graph node with a tensor value."""
    return isinstance(node, fx.Node) and isinstance(node.meta.get("val"), Tensor)


def rank(node: fx.Node) -> int:
    """Number of dimensions."""
    return int(node.meta["val"].dim())


def dtype(node: fx.Node) -> torch.dtype:
    """The node's dtype."""
    value: torch.dtype = node.meta["val"].dtype
    return value


def fixed(size: Any) -> int | None:
    """``size`` as an int, or ``None`` if it is symbolic."""
    if isinstance(size, int):
        return size
    number = size.node.maybe_as_int()
    return None if number is None else int(number)


def static_shape(node: fx.Node) -> tuple[int, ...] | None:
    """The node's shape if no size is symbolic."""
    sizes = [fixed(size) for size in shape(node)]
    return None if None in sizes else tuple(size for size in sizes if size is not None)


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes are provably equal: equal ints, or one symbolic expression."""
    x, y = fixed(a), fixed(b)
    if x is not None or y is not None:
        return x == y
    return bool(a.node.expr == b.node.expr)


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are provably equal, size by size."""
    return len(a) == len(b) and all(map(same_size, a, b))


def same_tensor_type(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes have provably equal shapes and equal dtypes and devices."""
    x, y = a.meta["val"], b.meta["val"]
    return x.dtype == y.dtype and x.device == y.device and same_shape(x.shape, y.shape)


def same_layout(a: fx.Node, b: fx.Node) -> bool:
    """Whether two nodes have provably equal strides, so that one can stand for the other bit for bit downstream."""
    return same_shape(a.meta["val"].stride(), b.meta["val"].stride())


def is_contiguous(node: fx.Node) -> bool:
    """Whether the node's strides are provably those of a contiguous tensor."""
    expected: Any = 1
    for size, stride in zip(reversed(shape(node)), reversed(node.meta["val"].stride())):
        if fixed(size) != 1 and not same_size(stride, expected):
            return False
        expected = expected * size
    return True


def is_constant(node: Any) -> bool:
    """Whether ``node`` reads a parameter, buffer or constant."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def is_floating(node: fx.Node) -> bool:
    """Whether the node's value is a floating-point tensor."""
    return is_tensor(node) and dtype(node).is_floating_point


def plain_sizes(node: fx.Node) -> list[int] | None:
    """Sizes for a ``reshape`` to the node's shape, at most one of them -1; ``None`` if two or more are symbolic."""
    sizes = [fixed(size) for size in shape(node)]
    if sizes.count(None) > 1 or (None in sizes and 0 in sizes):
        return None
    return [-1 if size is None else size for size in sizes]
