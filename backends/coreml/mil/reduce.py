"""MIL's reductions. Without ``axes`` they reduce everything."""

from __future__ import annotations

import torch
from torch import Tensor

from fxc.backends.coreml.mil.operator import Ints


def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the largest, the first of equal ones."""
    return torch.argmax(x, axis, keep_dims)


def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the smallest, the first of equal ones."""
    return torch.argmin(x, axis, keep_dims)


def reduce_l1_norm(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of absolute values."""
    return reduce_sum(x.abs(), axes, keep_dims)


def reduce_l2_norm(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Root of the sum of squares."""
    return torch.sqrt(reduce_sum((x * x).float(), axes, keep_dims))


def reduce_log_sum(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum."""
    return torch.log(reduce_sum(x, axes, keep_dims))


def reduce_log_sum_exp(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum of ``e^x``."""
    return torch.logsumexp(x.float(), _axes(x, axes), keep_dims)


def reduce_max(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Largest."""
    return torch.amax(x, _axes(x, axes), keep_dims)


def reduce_mean(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Mean; of integers without its fraction."""
    return torch.mean(x.float(), _axes(x, axes), keep_dims)


def reduce_min(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Smallest."""
    return torch.amin(x, _axes(x, axes), keep_dims)


def reduce_prod(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Product."""
    for axis in sorted(_axes(x, axes), reverse=True):
        x = torch.prod(x, axis, keep_dims)
    return x


def reduce_sum(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum."""
    return torch.sum(x, _axes(x, axes), keep_dims)


def reduce_sum_square(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of squares."""
    return reduce_sum(x * x, axes, keep_dims)


def _axes(x: Tensor, axes: Ints | None) -> list[int]:
    return list(range(x.dim())) if axes is None else [a % x.dim() for a in axes]


OPERATORS = (
    reduce_argmax,
    reduce_argmin,
    reduce_l1_norm,
    reduce_l2_norm,
    reduce_log_sum,
    reduce_log_sum_exp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
    reduce_sum_square,
)
