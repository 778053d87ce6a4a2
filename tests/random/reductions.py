"""Operators that reduce axes other than the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.random.choices import Choices
from tests.random.op import Op, Params, axis, deep, has_axes, image, kept_axes, kept_axis, same

AXES = (has_axes,)


def _norm(c: Choices, x: Tensor) -> Params:
    return {**kept_axis(c, x), "order": c.pick((2.0, 1.0, 3.0, math.inf))}


def _spread(c: Choices, x: Tensor) -> Params | None:
    """Axes whose variance exists."""
    found = kept_axis(c, x)
    return {**found, "correction": c.integer(0, 1)} if x.shape[found["dim"]] > 2 else None


def _even_channels(c: Choices, x: Tensor) -> Params | None:
    return {} if x.shape[1] % 2 == 0 else None


def _halves_alike(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return F.cosine_similarity(first, second, dim=1, eps=1e-3)


OPS = {
    "mean": Op(lambda x, dim, keepdim: x.mean(dim, keepdim=keepdim), kept_axes, AXES, weight=5),
    "mean_image": Op(lambda x, keep: x.mean((2, 3), keepdim=keep), lambda c, x: {"keep": c.chance(50)}, (image,), weight=6),
    "mean_all": Op(lambda x: x - x.mean(), accepts=AXES, weight=1),
    "sum": Op(lambda x, dim, keepdim: 0.5 * x.sum(dim, keepdim=keepdim), kept_axes, AXES, weight=3),
    "sum_all": Op(lambda x: x / (1 + x.abs().sum()), accepts=AXES, weight=1),
    "prod": Op(lambda x, dim, keepdim: (x.tanh() + 1.5).prod(dim, keepdim=keepdim), lambda c, x: p if x.shape[(p := kept_axis(c, x))["dim"]] <= 4 else None, AXES),
    "amax": Op(lambda x, dim, keepdim: x.amax(dim, keepdim=keepdim), kept_axes, AXES, weight=3),
    "amin": Op(lambda x, dim, keepdim: x.amin(dim, keepdim=keepdim), kept_axes, AXES),
    "max_all": Op(lambda x: x / (1 + x.max() - x.min()), accepts=AXES, weight=1),
    "max": Op(lambda x, dim, keepdim: x.max(dim, keepdim=keepdim), kept_axis, AXES, jumps=True, ties=True),
    "min_values": Op(lambda x, dim, keepdim: x.min(dim, keepdim=keepdim).values, kept_axis, AXES),
    "argmax": Op(lambda x, dim, keepdim: x.argmax(dim, keepdim=keepdim), kept_axis, AXES, jumps=True, ties=True),
    "argmin": Op(lambda x, dim, keepdim: x.argmin(dim, keepdim=keepdim), kept_axis, AXES, jumps=True, ties=True),
    "var": Op(lambda x, dim, keepdim, correction: x.var(dim, correction=correction, keepdim=keepdim), _spread, AXES),
    "var_unbiased": Op(lambda x: x.var(-1, unbiased=False), accepts=(deep,)),
    "std": Op(lambda x, dim, keepdim, correction: (x.var(dim, correction=correction, keepdim=keepdim) + 0.1).sqrt(), _spread, AXES),
    "std_plain": Op(lambda x: x.std((1, 2)), lambda c, x: {} if math.prod(x.shape[1:3]) > 3 else None, (deep,)),
    "var_mean": Op(lambda x, dim, keepdim, correction: torch.var_mean(x, dim, correction=correction, keepdim=keepdim), _spread, AXES),
    "standardized": Op(lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 0.1).sqrt(), lambda c, x: {} if x.shape[-1] > 2 else None, AXES, weight=3),
    "norm": Op(lambda x, dim, keepdim, order: torch.linalg.vector_norm(x, order, dim=dim, keepdim=keepdim), _norm, AXES),
    "norm_method": Op(lambda x: x.norm(dim=1), accepts=AXES),
    "normalize": Op(lambda x, dim: F.normalize(x, dim=dim, eps=1e-2), axis, AXES),
    "cosine_similarity": Op(_halves_alike, _even_channels, AXES),
    "distance": Op(lambda x, y: (x - y).square().sum(-1).add(0.1).sqrt(), accepts=(has_axes, same)),
    "logsumexp": Op(lambda x, dim, keepdim: x.logsumexp(dim, keepdim=keepdim), kept_axis, AXES),
    "cumsum": Op(lambda x, dim: x.cumsum(dim) / x.shape[dim], axis, AXES),
}  # fmt: skip
