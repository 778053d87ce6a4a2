"""Acme's operators, and a net that uses them."""

import torch
from torch import Tensor, nn


@torch.library.custom_op("acme::soft_gate", mutates_args=())
def soft_gate(x: Tensor, strength: float = 1.0) -> Tensor:
    """``x * sigmoid(strength * x)``, any shape, float32."""
    return x * torch.sigmoid(strength * x)


@soft_gate.register_fake
def _(x: Tensor, strength: float = 1.0) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("acme::flip_channels", mutates_args=())
def flip_channels(x: Tensor) -> Tensor:
    """Dimension 1 in reverse order."""
    return x.flip(1)


@flip_channels.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class AcmeNet(nn.Module):
    """Images ``[batch, 3, height, width]`` to ``[batch, 5]``; one pair of flips that a rule removes, one flip that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 12, 3, stride=2)
        self.tail = nn.Conv2d(12, 16, 3)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = soft_gate(self.stem(x), 1.5)
        x = torch.relu(self.body(flip_channels(flip_channels(x))))
        x = torch.relu(self.tail(flip_channels(x)))
        return self.head(x.mean((2, 3)))
