"""Hard variants of eight zoo models: the same function, in parameters and inputs that eight bits find hard.

Gaussian inputs through independent weights have no outliers, so the plain zoo flatters every quantizer. Trained nets are
worse: batch norm leaves channels whose ranges differ by hundreds (Nagel et al. 2019, arXiv:1906.04721, figure 2), and
transformers carry a few channels that are 20 to 100 times as large as the rest behind their layer norms (Dettmers et al.
2022, arXiv:2208.07339; Xiao et al. 2023, arXiv:2211.10438). Here both are put in without changing the function: a channel
is multiplied where it is made and divided where it is read, wherever what lies between is linear or positively homogeneous.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torchvision.models.efficientnet import MBConv
from torchvision.models.mobilenetv2 import InvertedResidual as InvertedResidualV2
from torchvision.models.mobilenetv3 import InvertedResidual as InvertedResidualV3
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torchvision.models.vision_transformer import EncoderBlock
from torchvision.ops.misc import Conv2dNormActivation, SqueezeExcitation

from tests.models import images as plain
from tests.models import zoo

NAMES: tuple[str, ...] = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "regnet_y_400mf",
    "vit_b_16",
    "swin_t",
)
SPREAD = 16.0
"""Channels are multiplied by log-uniform factors in [1 / SPREAD, SPREAD]."""
OUTLIER = 64.0
"""Behind layer norms, one channel in a thousand (at least one) is multiplied by this."""

_Inverted = InvertedResidualV2 | InvertedResidualV3 | MBConv
Pair = tuple[list[nn.Module], list[nn.Module]]
"""Modules that make the same channels (their sum, or one of them), and all modules that read them."""


def build(name: str, *, resolution: int = 224, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """The hard variant of one of `NAMES` in eval mode and a heavy-tailed example [1, 3, resolution, resolution].

    Args:
        resolution, seed: as in `zoo.build`, whose model this is in other parameters.

    Raises:
        ValueError: an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"no hard variant of {name!r}; there are {', '.join(NAMES)}")
    model, _ = zoo.build(name, resolution=resolution, seed=seed)
    return harden(model, seed), images(1, resolution, seed=2 * seed + 1)


def images(n: int, resolution: int, seed: int = 0) -> torch.Tensor:
    """Heavy-tailed inputs for the hard variants: float32 [n, 3, resolution, resolution]."""
    return plain.images(n, resolution, seed, heavy_tailed=True)


def harden(model: nn.Module, seed: int = 0) -> nn.Module:
    """Rescale channels of `model` in place, in its own dtype, so that its function stays what it is; returns it.

    Raises:
        AssertionError: the model has no place where that is possible.
    """
    rng = torch.Generator().manual_seed(seed + 1)
    places = 0
    with torch.no_grad():
        for makers, readers in _pairs(model):
            scale = _spread(_width(makers[0]), rng)
            _move(makers, readers, scale)
            places += 1
        for norm, reader in _after_layer_norm(model):
            _move([norm], [reader], _outliers(norm.weight.numel(), rng))
            places += 1
        for block in model.modules():
            places += _value_paths(block, rng)
    assert places, "nothing in this model can be rescaled"
    return model


def _spread(channels: int, rng: torch.Generator) -> torch.Tensor:
    exponent = 2.0 * torch.rand(channels, generator=rng, dtype=torch.float64) - 1.0
    return torch.exp(math.log(SPREAD) * exponent)


def _outliers(channels: int, rng: torch.Generator) -> torch.Tensor:
    scale = torch.ones(channels, dtype=torch.float64)
    scale[torch.randperm(channels, generator=rng)[: max(1, round(channels / 1000))]] = OUTLIER
    return scale


# -- places ----------------------------------------------------------------------------------------------------------


def _pairs(model: nn.Module) -> Iterator[Pair]:
    """Channels between a batch norm (or a convolution) and their readers, with nothing or a ReLU between."""
    for block in model.modules():
        if isinstance(block, BasicBlock):
            yield [block.bn1], [block.conv2]
        elif isinstance(block, Bottleneck):
            yield [block.bn1], [block.conv2]
            yield [block.bn2], [block.conv3]
        elif isinstance(block, ResBottleneckBlock):
            yield [block.f.a[1]], [block.f.b[0]]
            yield [block.f.b[1]], [block.f.se.fc1, block.f.c[0]]
        elif isinstance(block, InvertedResidualV3):
            yield from _inside_v3(block)
        if isinstance(block, SqueezeExcitation) and isinstance(block.activation, nn.ReLU):
            yield [block.fc1], [block.fc2]
    yield from _streams([m for m in model.modules() if isinstance(m, _Inverted)], model)


def _inside_v3(block: InvertedResidualV3) -> Iterator[Pair]:
    """MobileNetV3's blocks with ReLU: expansion to depthwise, depthwise to gate and projection."""
    parts = list(block.block)
    if not isinstance(parts[0][2], nn.ReLU):
        return
    depthwise = parts[0] if parts[0][0].groups > 1 else parts[1]
    if depthwise is not parts[0]:
        yield [parts[0][1]], [depthwise[0]]
    gates = [part.fc1 for part in parts if isinstance(part, SqueezeExcitation)]
    yield [depthwise[1]], [*gates, parts[-1][0]]


def _streams(blocks: Sequence[_Inverted], model: nn.Module) -> Iterator[Pair]:
    """Linear bottlenecks: the sum of projections that residual connections keep, and every expansion that reads it."""
    makers: list[nn.Module] = []
    readers: list[nn.Module] = []
    for block in blocks:
        if makers:
            readers.append(_first_conv(block))
        if makers and not block.use_res_connect:
            yield makers, readers
            makers, readers = [], []
        makers.append(_last_norm(block))
    if makers:
        yield makers, [*readers, model.features[-1][0]]


def _first_conv(block: _Inverted) -> nn.Module:
    parts = block.conv if isinstance(block, InvertedResidualV2) else block.block
    assert isinstance(parts[0], Conv2dNormActivation)
    return parts[0][0]


def _last_norm(block: _Inverted) -> nn.Module:
    return block.conv[-1] if isinstance(block, InvertedResidualV2) else block.block[-1][1]


def _after_layer_norm(model: nn.Module) -> Iterator[tuple[nn.LayerNorm, nn.Module]]:
    for block in model.modules():
        if isinstance(block, EncoderBlock):
            yield block.ln_1, block.self_attention
            yield block.ln_2, block.mlp[0]
        elif isinstance(block, SwinTransformerBlock):
            yield block.norm1, block.attn.qkv
            yield block.norm2, block.mlp[0]
        elif isinstance(block, PatchMerging):
            yield block.norm, block.reduction


def _value_paths(block: nn.Module, rng: torch.Generator) -> int:
    """Attention averages values over positions, which is linear: value projection to output projection."""
    if isinstance(block, EncoderBlock):
        attention = block.self_attention
        weight, bias, out = attention.in_proj_weight, attention.in_proj_bias, attention.out_proj
    elif isinstance(block, SwinTransformerBlock):
        weight, bias, out = block.attn.qkv.weight, block.attn.qkv.bias, block.attn.proj
    else:
        return 0
    scale = _spread(out.in_features, rng)
    _multiply(weight[-out.in_features :], scale)
    _multiply(bias[-out.in_features :], scale)
    _read(out, scale)
    return 1


# -- moves -----------------------------------------------------------------------------------------------------------


def _width(maker: nn.Module) -> int:
    return int(maker.weight.shape[0])


def _move(makers: Sequence[nn.Module], readers: Sequence[nn.Module], scale: torch.Tensor) -> None:
    for maker in makers:
        _multiply(maker.weight, scale)
        if maker.bias is not None:
            _multiply(maker.bias, scale)
    for reader in readers:
        _read(reader, scale)


def _multiply(parameter: torch.Tensor, scale: torch.Tensor) -> None:
    """Rows times `scale`, rounded once to the parameter's dtype."""
    shaped = scale.reshape(-1, *[1] * (parameter.ndim - 1))
    parameter.copy_(parameter.double() * shaped)


def _read(reader: nn.Module, scale: torch.Tensor) -> None:
    """Divide the weights that read channel `c` by `scale[c]`."""
    weight = reader.in_proj_weight if isinstance(reader, nn.MultiheadAttention) else reader.weight
    groups = reader.groups if isinstance(reader, nn.Conv2d) else 1
    # [out, in / groups, ...]: the rows of group g read input channels g * in / groups and on.
    grouped = weight.double().reshape(groups, -1, *weight.shape[1:])
    divided = grouped / scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
    weight.copy_(divided.reshape(weight.shape))
