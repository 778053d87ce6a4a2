"""Normalizations."""

from __future__ import annotations

import numpy as np
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.reduce import reduce
from fxc.backends.onnx.writer import Tensor, Writer

aten = torch.ops.aten


def batch_norm(
    g: Writer,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    eps: float,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        g.refuse("batch norm on the batch's own statistics: call eval(), with track_running_stats=True")
    channels = g.known(input, 1)
    scale = _ones(g, channels) if weight is None else weight
    shift = _zeros(g, channels) if bias is None else bias
    return g.op("BatchNormalization", input, scale, shift, running_mean, running_var, epsilon=eps)


def layer_norm(
    g: Writer,
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    rank = len(normalized_shape)
    if g.opset < 17:
        return _affine(g, _standardised(g, input, list(range(-rank, 0)), eps), weight, bias)
    scale = g.constant(np.ones(normalized_shape, g.dtype)) if weight is None else weight
    operands = (scale,) if bias is None else (scale, bias)
    return g.op("LayerNormalization", input, *operands, axis=-rank, epsilon=eps)


def rms_norm(
    g: Writer, input: Tensor, normalized_shape: list[int], weight: Tensor | None, eps: float | None
) -> Tensor:
    """x / sqrt(mean(x²) + eps), eps defaulting to the dtype's machine epsilon."""
    epsilon = float(np.finfo(g.dtype).eps) if eps is None else eps
    axes = list(range(-len(normalized_shape), 0))
    power = reduce(g, "ReduceMean", g.op("Mul", input, input), axes, True)
    root = g.op("Sqrt", g.op("Add", power, g.constant(epsilon)))
    return _affine(g, g.op("Div", input, root), weight, None)


def group_norm(
    g: Writer, input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """[n, c, …] -> [n, groups, -1] -> instance norm -> back, times weight plus bias per channel."""
    split = g.reshape(input, [0, num_groups, -1])
    plain = _instance(g, split, num_groups, eps)
    restored = g.op("Reshape", plain, g.shape_of(input))
    rank = len(input.shape)
    return _affine(g, restored, _per_channel(g, weight, rank), _per_channel(g, bias, rank))


def instance_norm(
    g: Writer,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    eps: float,
) -> Tensor:
    if not use_input_stats:
        return batch_norm(g, input, weight, bias, running_mean, running_var, False, eps)
    channels = g.known(input, 1)
    scale = _ones(g, channels) if weight is None else weight
    shift = _zeros(g, channels) if bias is None else bias
    return g.op("InstanceNormalization", input, scale, shift, epsilon=eps)


def _standardised(g: Writer, x: Tensor, axes: list[int], eps: float) -> Tensor:
    centred = g.op("Sub", x, reduce(g, "ReduceMean", x, axes, True))
    variance = reduce(g, "ReduceMean", g.op("Mul", centred, centred), axes, True)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.constant(eps))))


def _affine(g: Writer, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if weight is None else g.op("Mul", x, weight)
    return scaled if bias is None else g.op("Add", scaled, bias)


def _per_channel(g: Writer, values: Tensor | None, rank: int) -> Tensor | None:
    return None if values is None else g.reshape(values, [-1] + [1] * (rank - 2))


def _instance(g: Writer, x: Tensor, channels: int, eps: float) -> Tensor:
    return g.op("InstanceNormalization", x, _ones(g, channels), _zeros(g, channels), epsilon=eps)


def _ones(g: Writer, count: int) -> Tensor:
    return g.constant(np.ones(count, g.dtype))


def _zeros(g: Writer, count: int) -> Tensor:
    return g.constant(np.zeros(count, g.dtype))


LOWERINGS = lowerings(
    {
        aten.batch_norm.default: batch_norm,
        aten.layer_norm.default: layer_norm,
        aten.rms_norm.default: rms_norm,
        aten.group_norm.default: group_norm,
        aten.instance_norm.default: instance_norm,
    }
)
