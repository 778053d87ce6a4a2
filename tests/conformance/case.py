"""A case of the operator corpus: a small module and its inputs with batch 2."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Fn(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@dataclass(frozen=True)
class Case:
    """A module in eval mode and example inputs; the leading axis of every input is a batch of 2.

    Attributes:
        since: lowest ONNX opset that has the operator.
        batched: whether the function makes sense for another batch size.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    since: int = 13
    batched: bool = True


def image(channels: int = 4, height: int = 8, width: int = 7) -> Tensor:
    """A batch of two from the global generator."""
    return torch.randn(2, channels, height, width)


def case(
    what: nn.Module | Callable[..., Any], *inputs: Tensor, since: int = 13, batched: bool = True
) -> Case:
    """A case of a module or a function; without inputs, of one image."""
    module = what if isinstance(what, nn.Module) else Fn(what)
    return Case(module.eval(), inputs or (image(),), since, batched)


def of_image(*functions: tuple[str, nn.Module | Callable[..., Any]]) -> dict[str, Case]:
    """Cases that take one image, by name."""
    return {name: case(function) for name, function in functions}
