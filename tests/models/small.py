"""Small nets, each with one structure that compilers get wrong; milliseconds to run, and alive like the large ones."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tests.models.images import images
from tests.models.liven import liven

Inputs = tuple[torch.Tensor, ...]


class ConvChain(nn.Module):
    """Conv-BN-ReLU three times, then global pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 16, 16)
        self.features = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in pairwise(widths)
            )
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Residual(nn.Module):
    """Two residual blocks: an identity skip, and a strided one with a projection; ReLU after the add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 8, 3)
        self.a1, self.a2 = _conv_bn(8, 8, 3), _conv_bn(8, 8, 3)
        self.b1, self.b2 = _conv_bn(8, 16, 3, stride=2), _conv_bn(16, 16, 3)
        self.skip = _conv_bn(8, 16, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.a2(F.relu(self.a1(x))) + x)
        return F.relu(self.b2(F.relu(self.b1(x))) + self.skip(x))


class SqueezeExcite(nn.Module):
    """Conv-hardswish gated by pooled features through hardsigmoid, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = _conv_bn(3, 16, 3)
        self.squeeze, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.project = _conv_bn(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.expand(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        return self.project(x * F.hardsigmoid(gate))


class Depthwise(nn.Module):
    """An inverted residual: expand, depthwise, project, with ReLU6 in place and no activation after the projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 8, 3)
        self.block = nn.Sequential(
            _conv_bn(8, 24, 1),
            nn.ReLU6(inplace=True),
            _conv_bn(24, 24, 3, groups=24),
            nn.ReLU6(inplace=True),
            _conv_bn(24, 8, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + self.block(x)


class Transformer(nn.Module):
    """One pre-norm block over 8x8 patches: packed query-key-value, scaled dot product attention, GELU."""

    def __init__(self, dim: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, dim, 8, 8)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.head = nn.Linear(dim, 10)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        q, k, v = (
            self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + self.attend(self.norm1(x))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(self.norm3(x).mean(1))


class Shuffle(nn.Module):
    """Chunk, transform one half, concatenate, shuffle the channels, as in ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 16, 3)
        self.branch = nn.Sequential(_conv_bn(8, 8, 1), nn.ReLU(inplace=True), _conv_bn(8, 8, 3, groups=8))
        self.tail = _conv_bn(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, changed = F.relu(self.stem(x)).chunk(2, 1)
        x = torch.cat((kept, self.branch(changed)), 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return self.tail(x.view(batch, channels, height, width))


class MultiIO(nn.Module):
    """An image and a vector in; a dictionary with a nested pair out."""

    def __init__(self) -> None:
        super().__init__()
        self.image = _conv_bn(3, 8, 3, stride=2)
        self.vector = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor, vector: torch.Tensor) -> dict[str, object]:
        features = F.relu(self.image(image)) * torch.sigmoid(self.vector(vector))[:, :, None, None]
        pooled = features.mean((2, 3))
        return {"features": features, "heads": (self.head(pooled), pooled)}


class GroupedConvTranspose(nn.Module):
    """A grouped transposed convolution before a batch norm: the output channels lie on axis 1 of the weight, per group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 8, 3)
        self.up = nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False)
        self.bn = nn.BatchNorm2d(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.bn(self.up(F.relu(self.stem(x)))))


class LinearBatchNorm(nn.Module):
    """Linear and BatchNorm1d over vectors [B, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(16, 32), nn.BatchNorm1d(32)
        self.fc2, self.bn2 = nn.Linear(32, 8, bias=False), nn.BatchNorm1d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.fc2(F.relu(self.bn1(self.fc1(x)))))


class UNet(nn.Module):
    """Down, up, and a skip between: max pool, bilinear upsampling, concat, leaky ReLU, a per-pixel head."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = _conv_bn(3, 8, 3), _conv_bn(8, 16, 3)
        self.up = _conv_bn(24, 8, 3)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = F.leaky_relu(self.down1(x), 0.1)
        deep = F.leaky_relu(self.down2(F.max_pool2d(skip, 2)), 0.1)
        deep = F.interpolate(deep, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(F.leaky_relu(self.up(torch.cat((deep, skip), 1)), 0.1))


def _conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


SMALL: tuple[str, ...] = (
    "conv_chain",
    "residual",
    "se_hardswish",
    "depthwise_relu6",
    "transformer",
    "shuffle",
    "multi_io",
    "conv_transpose",
    "linear_bn1d",
    "unet",
)


def build_small(name: str, seed: int = 0) -> tuple[nn.Module, Inputs]:
    """One of `SMALL` in eval mode, livened, and its positional inputs, all with batch 2 and images of 32x32.

    Raises:
        ValueError: an unknown name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _class_of(name)()
    batches = [small_inputs(name, 16, 2 * seed + i * 1_000_000) for i in (0, 1)]
    return liven(model, batches, seed), small_inputs(name, 2, 2 * seed + 1)


def small_inputs(name: str, batch: int, seed: int = 0) -> Inputs:
    """Positional inputs of the small net `name`, float32: more data for calibration, other batch sizes."""
    rng = torch.Generator().manual_seed(seed)
    match name:
        case "linear_bn1d":
            return (torch.randn(batch, 16, generator=rng),)
        case "multi_io":
            return images(batch, 32, seed), torch.randn(batch, 6, generator=rng)
        case _:
            return (images(batch, 32, seed),)


def _class_of(name: str) -> Callable[[], nn.Module]:
    classes: tuple[type[nn.Module], ...] = (
        ConvChain,
        Residual,
        SqueezeExcite,
        Depthwise,
        Transformer,
        Shuffle,
        MultiIO,
        GroupedConvTranspose,
        LinearBatchNorm,
        UNet,
    )
    if name not in SMALL:
        raise ValueError(f"no small net {name!r}; there are {', '.join(SMALL)}")
    return dict(zip(SMALL, classes))[name]
