"""Small models for what is done for the Neural Engine: a vision transformer, a ConvNeXt block, classifiers with linear heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize


def optimized(module: nn.Module, *inputs: Tensor) -> Program:
    """The program that a target's own passes get."""
    return run_pipeline(capture(module.eval(), inputs), optimize())


class Block(nn.Module):
    """A transformer's block over ``[B, S, 16]``."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches of 4, a class token, one block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, 16, 4, 4), Block()
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.block(tokens))[:, 0])


class Next(nn.Module):
    """ConvNeXt's block, with its layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.up, self.down, self.scale = (
            nn.Linear(8, 32),
            nn.Linear(32, 8),
            nn.Parameter(torch.randn(8, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.deep(x).permute(0, 2, 3, 1))
        y = self.down(nn.functional.gelu(self.up(y))).permute(0, 3, 1, 2)
        return x + self.scale * y


class Packed(nn.Module):
    """Attention whose query, key and value are unpacked as timm does, its softmax computed by ``sdpa``."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        n, s, c = x.shape
        q, k, v = self.qkv(x).reshape(n, s, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3)
        return self.out(y.transpose(1, 2).reshape(n, s, c))


class Twice(nn.Module):
    """A linear layer whose result is read in both arrangements, and summed with a constant and with another token's."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.places = nn.Linear(6, 6), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.up(x)) + self.places
        return y.cumsum(1), (y[:, 1:3] * y[:, 2:4] + y[:, :1]).flatten(1)


def pooled() -> nn.Module:
    """A convolutional net with a hidden layer in its head."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)
    )  # fmt: skip


def flattened() -> nn.Module:
    """A head that reads the whole image, as VGG's."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 6), nn.ReLU())
