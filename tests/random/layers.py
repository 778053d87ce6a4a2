"""Layers: convolutions, pools, normalizations, products and resizing, with all that their parameters allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random.choices import Choices
from tests.random.op import (
    Op,
    Params,
    deep,
    divisors,
    has_axes,
    image,
    is_float,
    layer,
    tokens,
    vector,
    volume,
    whole,
)

IMAGE, TOKENS, VOLUME = (image,), (tokens,), (volume,)
WIDTHS = (4, 6, 8, 3, 5, 12)


def _channels(c: Choices, x: Tensor) -> Params:
    """Input and output channels with groups that divide both; depthwise quite often."""
    channels = x.shape[1]
    kind = c.integer(0, 9)
    if kind >= 8:
        return {"in_channels": channels, "out_channels": channels * c.pick((1, 1, 2)), "groups": channels}
    groups = c.pick(divisors(channels)) if kind >= 6 else 1
    return {
        "in_channels": channels,
        "out_channels": groups * c.integer(1, max(1, 12 // groups)),
        "groups": groups,
    }


def _window(c: Choices, size: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and dilation of one axis that fit its size."""
    kernel = min(c.pick((1, 3, 2, 3, 5)), size)
    dilation = c.pick((1, 1, 1, 2)) if kernel > 1 and 2 * (kernel - 1) < size else 1
    return kernel, c.pick((1, 1, 2, 3)), c.integer(0, kernel // 2), dilation


def _conv(c: Choices, x: Tensor) -> Params:
    windows = [_window(c, size) for size in x.shape[2:]]
    if c.chance(60):
        windows = [min(windows)] * len(windows)
    kernel, stride, padding, dilation = (tuple(v) for v in zip(*windows))
    found = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return {**_channels(c, x), **found, "bias": c.chance(60)}


def _conv2d(c: Choices, x: Tensor) -> Params:
    found = _conv(c, x)
    if c.chance(12):
        found |= {"padding": "same", "stride": (1, 1)}
    elif c.chance(8) and max(found["padding"]) < min(x.shape[2:]):
        found["padding_mode"] = c.pick(("reflect", "replicate"))
    return found


def _transposed(c: Choices, x: Tensor) -> Params:
    rank = x.dim() - 2
    kernel, stride = c.pick((2, 3, 1)), c.pick((2, 1, 3))
    return {
        **_channels(c, x),
        "kernel_size": (kernel,) * rank,
        "stride": (stride,) * rank,
        "padding": (c.integer(0, kernel // 2),) * rank,
        "output_padding": (c.integer(0, stride - 1),) * rank,
        "bias": c.chance(60),
    }


CONVOLUTIONS = {
    "conv2d": layer(nn.Conv2d, _conv2d, weight=60),
    "conv1d": layer(nn.Conv1d, _conv, tokens, weight=8),
    "conv3d": layer(nn.Conv3d, _conv, volume, weight=10),
    "conv_transpose2d": layer(nn.ConvTranspose2d, _transposed, weight=8),
    "conv_transpose1d": layer(nn.ConvTranspose1d, _transposed, tokens, weight=3),
    "conv_transpose3d": layer(nn.ConvTranspose3d, _transposed, volume, weight=5),
    "conv_by_input": Op(lambda x, y: F.conv2d(x, y.mean(0, keepdim=True)[:, :, :2, :2]), accepts=(image, lambda t, s: t.dim() == 4 and t.is_floating_point() and t.shape[1:] == s[0].shape[1:]), weight=1),
}  # fmt: skip


def _pool(c: Choices, x: Tensor) -> Params | None:
    size = min(x.shape[2:])
    if size < 2:
        return None
    kernel = min(c.pick((2, 3)), size)
    return {
        "kernel_size": kernel,
        "stride": c.integer(1, 3),
        "padding": c.integer(0, kernel // 2),
        "ceil_mode": c.chance(30),
    }


def _max_pool(c: Choices, x: Tensor) -> Params | None:
    found = _pool(c, x)
    return found and {**found, "dilation": c.pick((1, 1, 2)) if min(x.shape[2:]) > 4 else 1}


def _avg_pool(c: Choices, x: Tensor) -> Params | None:
    found = _pool(c, x)
    return found and {**found, "count_include_pad": c.chance(50)}


def _avg_pool2d(c: Choices, x: Tensor) -> Params | None:
    found = _avg_pool(c, x)
    return found and {**found, "divisor_override": c.pick((None, None, 5))}


def _output_size(c: Choices, x: Tensor) -> Params:
    return {"output_size": c.pick((1, tuple(c.integer(1, size) for size in x.shape[2:])))}


def _exact_size(c: Choices, x: Tensor) -> Params:
    return {"output_size": tuple(c.pick(divisors(size)) for size in x.shape[2:])}


POOLS = {
    "max_pool2d": layer(nn.MaxPool2d, _max_pool, weight=10),
    "avg_pool2d": layer(nn.AvgPool2d, _avg_pool2d, weight=6),
    "max_pool1d": layer(nn.MaxPool1d, _pool, tokens),
    "avg_pool1d": layer(nn.AvgPool1d, _avg_pool, tokens),
    "max_pool3d": layer(nn.MaxPool3d, _pool, volume),
    "avg_pool3d": layer(nn.AvgPool3d, _avg_pool, volume),
    "adaptive_avg_pool2d": layer(nn.AdaptiveAvgPool2d, _output_size, weight=5),
    "adaptive_avg_pool1d": layer(nn.AdaptiveAvgPool1d, lambda c, x: {"output_size": c.integer(1, x.shape[2])}, tokens, weight=2),
    "adaptive_avg_pool3d": layer(nn.AdaptiveAvgPool3d, lambda c, x: {"output_size": 1}, volume, weight=2),
    "adaptive_max_pool2d": layer(nn.AdaptiveMaxPool2d, _exact_size, weight=2),
    "adaptive_max_pool1d": layer(nn.AdaptiveMaxPool1d, lambda c, x: {"output_size": 1}, tokens, weight=1),
    "lp_pool2d": Op(lambda x: F.lp_pool2d(x.abs() + 0.1, 2, 2), lambda c, x: {} if min(x.shape[2:]) > 1 else None, IMAGE, weight=1),
}  # fmt: skip


def _features(c: Choices, x: Tensor) -> Params:
    return {"num_features": x.shape[1], "affine": c.integer(0, 9) < 9}


def _group_norm(c: Choices, x: Tensor) -> Params | None:
    groups = c.pick(divisors(x.shape[1]))
    enough = x[0].numel() // groups >= 4
    return {"num_groups": groups, "num_channels": x.shape[1], "affine": c.chance(70)} if enough else None


def _instance_norm(c: Choices, x: Tensor) -> Params | None:
    return {"num_features": x.shape[1], "affine": c.chance(50)} if x[0, 0].numel() >= 4 else None


def _layer_norm(c: Choices, x: Tensor) -> Params | None:
    start = c.pick((x.dim() - 1, c.integer(1, x.dim() - 1)))
    shape = tuple(x.shape[start:])
    if torch.Size(shape).numel() < 3:
        return None
    affine = c.chance(80)
    return {"normalized_shape": shape, "elementwise_affine": affine, "bias": affine and c.chance(80)}


def _rms_norm(c: Choices, x: Tensor) -> Params | None:
    return {"normalized_shape": (x.shape[-1],), "eps": 1e-3} if x.shape[-1] >= 3 else None


def _channels_last_norm(norm: nn.Module, x: Tensor, **_: Any) -> Tensor:
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS = {
    "batch_norm2d": layer(nn.BatchNorm2d, _features, weight=36),
    "batch_norm1d": layer(nn.BatchNorm1d, _features, lambda t, s: t.is_floating_point() and t.dim() in (2, 3), weight=12),
    "batch_norm3d": layer(nn.BatchNorm3d, _features, volume, weight=5),
    "group_norm": layer(nn.GroupNorm, _group_norm, deep, weight=3),
    "instance_norm2d": layer(nn.InstanceNorm2d, _instance_norm, weight=2),
    "instance_norm1d": layer(nn.InstanceNorm1d, _instance_norm, tokens, weight=1),
    "layer_norm": layer(nn.LayerNorm, _layer_norm, has_axes, weight=6),
    "layer_norm_channels": Op(_channels_last_norm, lambda c, x: {"normalized_shape": x.shape[1]} if x.shape[1] > 2 else None, IMAGE, nn.LayerNorm),
    "rms_norm": layer(nn.RMSNorm, _rms_norm, has_axes, weight=3),
    "local_response_norm": layer(nn.LocalResponseNorm, lambda c, x: {"size": 3}, weight=1),
}  # fmt: skip


def _linear(c: Choices, x: Tensor) -> Params:
    return {"in_features": x.shape[-1], "out_features": c.pick((*WIDTHS, x.shape[-1])), "bias": c.chance(70)}


def _weight(c: Choices, x: Tensor) -> Params:
    return {"in_features": x.shape[-1], "out_features": c.pick(WIDTHS), "bias": False}


def _matrices(t: Tensor, chosen: Any) -> bool:
    x = chosen[0]
    return (
        t.is_floating_point()
        and t.dim() == x.dim()
        and t.shape[-1] == x.shape[-1]
        and t.shape[:-2] == x.shape[:-2]
    )


def _batched(t: Tensor, chosen: Any) -> bool:
    return t.dim() == 3 and _matrices(t, chosen)


PRODUCTS = {
    "linear": layer(nn.Linear, _linear, has_axes, weight=20),
    "linear_rows": layer(nn.Linear, _linear, vector, weight=16),
    "linear_by_hand": Op(lambda m, x, **_: x @ m.weight.t(), _weight, (has_axes,), nn.Linear, weight=3),
    "linear_plus_bias": Op(lambda m, x, **_: x @ m.weight.t() + m.bias, lambda c, x: {**_weight(c, x), "bias": True}, (has_axes,), nn.Linear),
    "addmm": Op(lambda m, x, k, **_: torch.addmm(m.bias, x, m.weight.t(), beta=k, alpha=1), lambda c, x: {**_weight(c, x), "bias": True, "k": c.pick((1, 0.5))}, (vector,), lambda k, **p: nn.Linear(**p), weight=3),
    "matmul": Op(lambda x, y: x @ y.transpose(-1, -2) / x.shape[-1] ** 0.5, accepts=(deep, _matrices), weight=6),
    "bmm": Op(lambda x, y: torch.bmm(x, y.transpose(1, 2)) / x.shape[-1] ** 0.5, accepts=(tokens, _batched), weight=3),
    "baddbmm": Op(lambda x, y: torch.baddbmm(torch.ones(1, 1, 1, dtype=x.dtype), x, y.mT, beta=0.5, alpha=0.25), accepts=(tokens, _batched)),
    "matmul_vector": Op(lambda x: x @ torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype), accepts=(has_axes,)),
    "einsum": Op(lambda x, y: torch.einsum("bik,bjk->bij", x, y) / x.shape[-1] ** 0.5, accepts=(tokens, _batched)),
    "bilinear": layer(nn.Bilinear, lambda c, x, y: {"in1_features": x.shape[1], "in2_features": y.shape[1], "out_features": 3}, vector, vector, weight=2),
    "outer": Op(lambda x: x.unsqueeze(-1) * x.unsqueeze(-2), accepts=(vector,)),
    "embedding": Op(lambda m, n, **_: m(n.long().clamp(0, 9)), lambda c, n: {"num_embeddings": 10, "embedding_dim": c.pick(WIDTHS)} if n.dim() <= 3 else None, (whole,), nn.Embedding, weight=6),
}  # fmt: skip


def _sizes(c: Choices, x: Tensor) -> Params:
    if c.chance(60):
        return {"scale_factor": c.pick((2, 2, 1.6, 3)), "size": None}
    return {"scale_factor": None, "size": tuple(c.integer(1, 11) for _ in x.shape[2:])}


def _aligned(c: Choices, x: Tensor) -> Params:
    return {**_sizes(c, x), "align_corners": c.chance(40)}


def _resize(mode: str) -> Callable[..., Tensor]:
    return lambda x, **options: F.interpolate(x, mode=mode, **options)


def _sampled(x: Tensor, g: Tensor, mode: str, border: str, aligned: bool) -> Tensor:
    grid = 1.1 * g.flatten(1)[:, :8].reshape(-1, 2, 2, 2).tanh()
    return F.grid_sample(x, grid, mode, border, align_corners=aligned)


def _sampling(c: Choices, x: Tensor, g: Tensor) -> Params | None:
    if g[0].numel() < 8:
        return None
    return {"mode": "bilinear", "border": c.pick(("zeros", "border")), "aligned": c.chance(50)}


RESIZING = {
    "nearest": Op(_resize("nearest"), _sizes, IMAGE, weight=5),
    "nearest_exact": Op(_resize("nearest-exact"), _sizes, IMAGE),
    "bilinear": Op(_resize("bilinear"), _aligned, IMAGE, weight=4),
    "bicubic": Op(_resize("bicubic"), _aligned, IMAGE),
    "nearest1d": Op(_resize("nearest"), _sizes, TOKENS, weight=1),
    "linear1d": Op(_resize("linear"), _aligned, TOKENS, weight=1),
    "trilinear": Op(_resize("trilinear"), _aligned, VOLUME),
    "nearest3d": Op(_resize("nearest"), _sizes, VOLUME),
    "bilinear_as_other": Op(lambda x, y: F.interpolate(x, y.shape[-2:], mode="bilinear"), accepts=(image, image)),
    "grid_sample": Op(_sampled, _sampling, (image, is_float)),
}  # fmt: skip

OPS = {**CONVOLUTIONS, **POOLS, **NORMS, **PRODUCTS, **RESIZING}
