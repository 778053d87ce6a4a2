"""MIL's activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import refuse


def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``min(x, beta)`` where x >= 0, else ``min(alpha x, beta)``."""
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


def elu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where positive, else ``alpha (e^x - 1)``."""
    return F.elu(x, alpha)


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """``x`` times the normal distribution's integral: exact, by tanh, or as ``x sigmoid(1.702 x)``."""
    match mode:
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x * torch.sigmoid(1.702 * x)
    raise refuse("mode", mode)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where x >= 0, else ``alpha x``."""
    return torch.where(x >= 0, x, alpha * x)


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha x + beta``."""
    return alpha * x + beta


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """``x`` where positive, else ``alpha x``; one alpha per channel (dimension 1)."""
    return torch.where(x > 0, x, per_channel(alpha, x) * x)


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return x.clamp(0, 6)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha tanh(beta x)``."""
    return alpha * torch.tanh(beta * x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + e^-x)``."""
    return torch.sigmoid(x)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha x + beta`` between 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


def silu(x: Tensor) -> Tensor:
    """``x sigmoid(x)``."""
    return F.silu(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x)``."""
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """``alpha log(1 + e^(beta x))``, alpha and beta per channel (dimension 1)."""
    return per_channel(alpha, x) * softplus(per_channel(beta, x) * x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``e^x`` over its sum along ``axis``."""
    return torch.softmax(x, axis)


def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where x >= alpha, else 0."""
    return torch.where(x >= alpha, x, torch.zeros((), dtype=x.dtype))


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """``values`` [c] laid along dimension 1 of ``x``."""
    return values.reshape(-1, *(1,) * (x.dim() - 2))


OPERATORS = (
    clamped_relu,
    elu,
    gelu,
    leaky_relu,
    linear_activation,
    prelu,
    relu,
    relu6,
    scaled_tanh,
    sigmoid,
    sigmoid_hard,
    silu,
    softmax,
    softplus,
    softplus_parametric,
    softsign,
    tanh,
    thresholded_relu,
)
