"""MIL's elementwise operators of one operand."""

from __future__ import annotations

import torch
from torch import Tensor

from fxc.backends.coreml.mil.operator import refuse
from fxc.backends.coreml.values import HELD

_NAMES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}


def abs(x: Tensor) -> Tensor:
    """``|x|``."""
    return torch.abs(x)


def acos(x: Tensor) -> Tensor:
    """Inverse cosine."""
    return torch.acos(x)


def asin(x: Tensor) -> Tensor:
    """Inverse sine."""
    return torch.asin(x)


def atan(x: Tensor) -> Tensor:
    """Inverse tangent."""
    return torch.atan(x)


def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""
    return torch.atanh(x)


def cast(x: Tensor, dtype: str) -> Tensor:
    """``x`` in another type; of a float its fraction goes, a bool is whether it is not 0."""
    name = _NAMES.get(dtype, dtype)
    if name not in HELD:
        raise refuse("dtype", dtype)
    return x != 0 if name == "bool" else x.to(HELD[name])


def ceil(x: Tensor) -> Tensor:
    """Rounded up."""
    return torch.ceil(x)


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``x`` between ``alpha`` and ``beta``."""
    return x.clamp(alpha, beta)


def cos(x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return torch.cosh(x)


def erf(x: Tensor) -> Tensor:
    """The error function."""
    return torch.erf(x)


def exp(x: Tensor) -> Tensor:
    """``e^x``."""
    return torch.exp(x)


def exp2(x: Tensor) -> Tensor:
    """``2^x``."""
    return torch.exp2(x.float())


def floor(x: Tensor) -> Tensor:
    """Rounded down."""
    return torch.floor(x)


def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """``1 / (x + epsilon)``."""
    return torch.reciprocal(x + epsilon)


def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """``log(x + epsilon)``."""
    return torch.log(x + epsilon)


def logical_not(x: Tensor) -> Tensor:
    """The opposite."""
    return torch.logical_not(x)


def round(x: Tensor) -> Tensor:
    """To the nearest integer, halves to the even one."""
    return torch.round(x)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """``1 / sqrt(x + epsilon)``."""
    return torch.rsqrt(x + epsilon)


def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


def sin(x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return torch.sinh(x)


def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


def square(x: Tensor) -> Tensor:
    """``x * x``."""
    return x * x


def tan(x: Tensor) -> Tensor:
    """Tangent."""
    return torch.tan(x)


def threshold(x: Tensor, alpha: float) -> Tensor:
    """``max(x, alpha)``."""
    return x.clamp(min=alpha)


def identity(x: Tensor) -> Tensor:
    """``x``."""
    return x


OPERATORS = (
    abs,
    acos,
    asin,
    atan,
    atanh,
    cast,
    ceil,
    clip,
    cos,
    cosh,
    erf,
    exp,
    exp2,
    floor,
    identity,
    inverse,
    log,
    logical_not,
    round,
    rsqrt,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    threshold,
)
