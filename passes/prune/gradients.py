"""Gradients of a loss over data, for the Taylor criterion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fxc.compiler.errors import UsageError
from fxc.compiler.program import Program

Loss = Callable[[nn.Module, Any], Tensor]
"""From the model and one batch to a scalar."""


def gradients_of(program: Program, data: Iterable[Any], loss: Loss) -> dict[str, Tensor]:
    """The gradient of the summed loss for every parameter, by name; the model runs in evaluation mode.

    Raises:
        UsageError: there is no batch, or the loss is no scalar that depends on the parameters.
    """
    module = program.module()
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    batches = 0
    with torch.enable_grad():
        for batch in data:
            value = loss(module, batch)
            if isinstance(value, Tensor) and value.numel() != 1:
                raise UsageError(
                    f"the loss is a tensor {list(value.shape)}", fix="loss(model, batch) -> scalar"
                )
            if not isinstance(value, Tensor) or not value.requires_grad:
                raise UsageError(
                    "the loss does not depend on the model's parameters", fix="loss(model, batch) -> scalar"
                )
            found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, found):
                if gradient is not None:
                    total[name] += gradient
            batches += 1
    if not batches:
        raise UsageError("the Taylor criterion was given no data")
    return total
