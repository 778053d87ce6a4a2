"""What the generator knows about one operator: which operands it takes, which parameters, and how to run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.random.choices import Choices

Params = dict[str, Any]
Accepts = Callable[[Tensor, Sequence[Tensor]], bool]
"""Whether a tensor suits as the next operand, after those that were chosen already."""


def _nothing(c: Choices, *operands: Tensor) -> Params | None:
    return {}


def is_float(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """Any float tensor with a batch axis."""
    return t.is_floating_point() and t.dim() >= 1


@dataclass(frozen=True)
class Op:
    """One operator, or a small block of them.

    Attributes:
        run: ``run(*operands, **params)``, or ``run(module, *operands, **params)`` where there is a module.
        draw: parameters (plain data) for given operands, or ``None`` if these will not do.
        accepts: one condition per operand.
        make: a module from the parameters.
        weight: how often it is tried, relative to the others.
        jumps: not continuous: a small change of its input may change its output by much.
        ties: which of several equal values it takes is not defined, and quantized values often are equal.
        fixes: torch.export cannot trace it with a free batch.
    """

    run: Callable[..., Any]
    draw: Callable[..., Params | None] = _nothing
    accepts: tuple[Accepts, ...] = (is_float,)
    make: Callable[..., nn.Module] | None = None
    weight: int = 2
    jumps: bool = False
    ties: bool = False
    fixes: bool = False


def layer(make: Callable[..., nn.Module], draw: Callable[..., Params | None], *accepts: Accepts, weight: int = 4) -> Op:  # fmt: skip
    """An ``nn.Module`` whose arguments are the parameters."""
    return Op(_call, draw, accepts or (image,), make, weight)


def _call(module: nn.Module, *operands: Tensor, **_: Any) -> Any:
    return module(*operands)


def image(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """[N, C, H, W]"""
    return t.is_floating_point() and t.dim() == 4


def tokens(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """[N, T, D] or [N, C, L]"""
    return t.is_floating_point() and t.dim() == 3


def vector(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """[N, D]"""
    return t.is_floating_point() and t.dim() == 2


def volume(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """[N, C, D, H, W]"""
    return t.is_floating_point() and t.dim() == 5


def has_axes(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """A float tensor with an axis beside the batch."""
    return t.is_floating_point() and t.dim() >= 2


def deep(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """A float tensor with two axes beside the batch."""
    return t.is_floating_point() and t.dim() >= 3


def truth(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """A tensor of booleans."""
    return t.dtype == torch.bool and t.dim() >= 2


def whole(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """A tensor of integers."""
    return t.dtype in (torch.int64, torch.int32) and t.dim() >= 1


def anything(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """Any tensor with an axis beside the batch."""
    return t.dim() >= 2


def same(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """Shape and dtype of the first operand."""
    return t.shape == chosen[0].shape and t.dtype == chosen[0].dtype


def same_shape(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """Shape of the first operand."""
    return t.shape == chosen[0].shape


def broadcasts(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """A float tensor of the first operand's rank that broadcasts with it; with another rank, batch would meet channels."""
    fits = t.dim() == chosen[0].dim() and all(a == b or 1 in (a, b) for a, b in zip(t.shape, chosen[0].shape))
    return t.is_floating_point() and fits


def joins(t: Tensor, chosen: Sequence[Tensor]) -> bool:
    """Shape of the first operand but for one axis that is not the batch."""
    first = chosen[0]
    if t.dim() != first.dim() or t.dtype != first.dtype or t.dim() < 2 or t.shape[0] != first.shape[0]:
        return False
    return sum(a != b for a, b in zip(t.shape, first.shape)) <= 1


def axis(c: Choices, x: Tensor, *_: Tensor) -> Params:
    """An axis that is not the batch, counted from either end."""
    dim = c.integer(1, x.dim() - 1)
    return {"dim": dim - x.dim() if c.chance(30) else dim}


def kept_axis(c: Choices, x: Tensor, *_: Tensor) -> Params:
    """An axis and whether it stays."""
    return {**axis(c, x), "keepdim": c.chance(50)}


def kept_axes(c: Choices, x: Tensor, *_: Tensor) -> Params:
    """One or several axes and whether they stay."""
    first = c.integer(1, x.dim() - 1)
    return {"dim": tuple(range(first, c.integer(first, x.dim() - 1) + 1)), "keepdim": c.chance(50)}


def divisors(number: int) -> list[int]:
    """All divisors, 1 first."""
    return [d for d in range(1, number + 1) if number % d == 0]
