"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Tensor, Writer

aten = torch.ops.aten


def conv(
    g: Writer,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int] | str,
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Conv; weight ``[out, in/groups, *kernel]``."""
    rank = len(weight.shape) - 2
    attributes = _window(weight, _pads(g, weight, padding, dilation, rank), stride, dilation, groups)
    return _batched(g, "Conv", input, weight, bias, attributes)


def conv_transpose(
    g: Writer,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    groups: int,
    dilation: list[int],
) -> Tensor:
    """ConvTranspose; weight ``[in, out/groups, *kernel]``."""
    rank = len(weight.shape) - 2
    attributes = _window(weight, spread(padding, rank) * 2, stride, dilation, groups)
    attributes["output_padding"] = spread(output_padding, rank)
    return _batched(g, "ConvTranspose", input, weight, bias, attributes)


def convolution(
    g: Writer,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """The one form into which decompositions turn all of the above."""
    if transposed:
        return conv_transpose(g, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(g, input, weight, bias, stride, padding, dilation, groups)


def spread(values: list[int] | int, rank: int) -> list[int]:
    """One value per spatial dimension: PyTorch lets a single one stand for all."""
    listed = [values] if isinstance(values, int) else list(values)
    return listed * rank if len(listed) == 1 else listed


def _window(
    weight: Tensor, pads: list[int], stride: list[int], dilation: list[int], groups: int
) -> dict[str, Any]:
    rank = len(weight.shape) - 2
    return {
        "kernel_shape": [int(d) for d in weight.shape[2:]],
        "strides": spread(stride, rank),
        "pads": pads,
        "dilations": spread(dilation, rank),
        "group": groups,
    }


def _pads(g: Writer, weight: Tensor, padding: list[int] | str, dilation: list[int], rank: int) -> list[int]:
    if padding == "valid":
        return [0] * (2 * rank)
    if padding == "same":
        total = [d * (int(k) - 1) for d, k in zip(spread(dilation, rank), weight.shape[2:])]
        return [t // 2 for t in total] + [t - t // 2 for t in total]
    if isinstance(padding, str):
        g.refuse(f"padding {padding!r} is not known")
    return spread(padding, rank) * 2


def _batched(
    g: Writer, kind: str, x: Tensor, weight: Tensor, bias: Tensor | None, attributes: dict[str, Any]
) -> Tensor:
    operands = (weight,) if bias is None else (weight, bias)
    if len(x.shape) == len(weight.shape):
        return g.op(kind, x, *operands, **attributes)
    return g.squeeze(g.op(kind, g.unsqueeze(x, 0), *operands, **attributes), 0)


LOWERINGS = lowerings(
    {
        aten.conv1d.default: conv,
        aten.conv2d.default: conv,
        aten.conv3d.default: conv,
        aten.conv1d.padding: conv,
        aten.conv2d.padding: conv,
        aten.conv3d.padding: conv,
        aten.conv_transpose1d.default: conv_transpose,
        aten.conv_transpose2d.input: conv_transpose,
        aten.conv_transpose3d.input: conv_transpose,
        aten.convolution.default: convolution,
    }
)
