"""MIL's elementwise operators of two operands, and the choice between two tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``."""
    return x + y


def sub(x: Tensor, y: Tensor) -> Tensor:
    """``x - y``."""
    return x - y


def mul(x: Tensor, y: Tensor) -> Tensor:
    """``x * y``."""
    return x * y


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """``x / y``; of integers the quotient without its fraction."""
    return x / y if x.is_floating_point() or y.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """``x / y`` rounded down."""
    return torch.div(x, y, rounding_mode="floor")


def mod(x: Tensor, y: Tensor) -> Tensor:
    """What rounding ``x / y`` down leaves; it has the sign of ``y``."""
    return torch.remainder(x, y)


def pow(x: Tensor, y: Tensor) -> Tensor:
    """``x`` to the power of ``y``."""
    return torch.pow(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger one."""
    return torch.maximum(x, y)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller one."""
    return torch.minimum(x, y)


def equal(x: Tensor, y: Tensor) -> Tensor:
    """``x == y``."""
    return torch.eq(x, y)


def not_equal(x: Tensor, y: Tensor) -> Tensor:
    """``x != y``."""
    return torch.ne(x, y)


def greater(x: Tensor, y: Tensor) -> Tensor:
    """``x > y``."""
    return torch.gt(x, y)


def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    """``x >= y``."""
    return torch.ge(x, y)


def less(x: Tensor, y: Tensor) -> Tensor:
    """``x < y``."""
    return torch.lt(x, y)


def less_equal(x: Tensor, y: Tensor) -> Tensor:
    """``x <= y``."""
    return torch.le(x, y)


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """Both."""
    return torch.logical_and(x, y)


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """Either or both."""
    return torch.logical_or(x, y)


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """Exactly one."""
    return torch.logical_xor(x, y)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` where ``cond``, else ``b``."""
    return torch.where(cond, a, b)


OPERATORS = (
    add,
    equal,
    floor_div,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    mul,
    not_equal,
    pow,
    real_div,
    select,
    sub,
)
