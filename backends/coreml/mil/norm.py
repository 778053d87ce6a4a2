"""MIL's normalizations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.activation import per_channel
from fxc.backends.coreml.mil.operator import Ints


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """``gamma (x - mean) / sqrt(variance + epsilon) + beta``, per channel (dimension 1)."""
    scale = torch.rsqrt(variance + epsilon) * (1 if gamma is None else gamma)
    shift = -mean * scale + (0 if beta is None else beta)
    return x * per_channel(scale, x) + per_channel(shift, x)


def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Each channel of each sample over its spatial dimensions."""
    return F.instance_norm(x, weight=gamma, bias=beta, eps=epsilon)


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Over ``axes``, by the biased variance; ``gamma`` and ``beta`` have the sizes of those axes."""
    chosen = sorted(a % x.dim() for a in (axes or range(x.dim())))
    shape = [x.shape[a] for a in chosen]
    if chosen == list(range(x.dim() - len(chosen), x.dim())):
        return F.layer_norm(x, shape, gamma, beta, epsilon)
    laid = [x.shape[i] if i in chosen else 1 for i in range(x.dim())]
    variance, mean = torch.var_mean(x, chosen, correction=0, keepdim=True)
    normal = (x - mean) * torch.rsqrt(variance + epsilon)
    scaled = normal if gamma is None else normal * gamma.reshape(laid)
    return scaled if beta is None else scaled + beta.reshape(laid)


def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """``x`` over the root of the sum of squares of its last three dimensions."""
    return x * torch.rsqrt((x * x).sum((-3, -2, -1), keepdim=True) + epsilon)


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``x`` over a power of the mean square of ``size`` neighbouring channels."""
    return F.local_response_norm(x, size, alpha, beta, k)


OPERATORS = (batch_norm, instance_norm, l2_norm, layer_norm, local_response_norm)
