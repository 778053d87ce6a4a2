"""Weights and biases as integers behind a dequantize."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor, detached
from fxc.compiler.errors import CalibrationError
from fxc.compiler.finite import all_finite
from fxc.compiler.macs import TRANSPOSED
from fxc.compiler.origin import label_of, where
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR, QUANTIZE_CHANNEL, QUANTIZE_TENSOR
from fxc.compiler.quant import QuantSpec
from fxc.passes.quantize.qparams import SMALLEST_SCALE, QParams, channel_maxima, rounded_up, weight_scales

_BIAS_LIMIT = float(2**30)
"""Largest magnitude of an int32 bias code: half the range stays free for the accumulator."""
_ALONE = float(2**15)


@dataclass(frozen=True)
class WeightCode:
    """A weight as integers: ``codes`` and its ``scales`` (0-d or ``[channels]``), zero point 0."""

    codes: Tensor
    scales: Tensor


def quantize_weight(weight: Tensor, spec: QuantSpec, least: Tensor | None = None) -> WeightCode:
    """Codes and scales of a constant float weight.

    Args:
        weight: float32, any shape.
        spec: symmetric; ``spec.axis`` is the channel axis.
        least: lower bounds for the scales, ``[channels]``, where a bias needs them (see :func:`scale_floor`).
    """
    scales = weight_scales(weight, spec)
    if least is not None:
        scales = torch.maximum(scales, least.to(torch.float32))
        # A channel without weights is its bias alone: the scale is free, so it gives the bias 15 bits.
        alone = (least > 0) & (channel_maxima(weight, spec) == 0)
        scales = torch.where(alone, (least * _ALONE).to(torch.float32).clamp_min(SMALLEST_SCALE), scales)
        scales = rounded_up(scales, spec)
    dtype = getattr(torch, spec.dtype)
    if spec.axis is None:
        codes = QUANTIZE_TENSOR(weight, float(scales), 0, spec.qmin, spec.qmax, dtype)
    else:
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        codes = QUANTIZE_CHANNEL(weight, scales, zeros, spec.axis, spec.qmin, spec.qmax, dtype)
    return WeightCode(codes, scales)


def scale_floor(bias: Tensor | None, input_scale: float) -> Tensor | None:
    """Weight scales below which the int32 bias would overflow: ``|bias| / (s_x * 2^30)``, ``[channels]``."""
    if bias is None:
        return None
    return bias.detach().abs().double() / (input_scale * _BIAS_LIMIT)


def place_weight(
    editor: Editor, node: fx.Node, spec: QuantSpec, activation: QParams | None, *, int32_bias: bool
) -> None:
    """Put ``node``'s constant weight, and its bias if ``int32_bias``, behind a dequantize.

    Args:
        node: a conv, transposed conv or linear: arguments 1 and 2 are weight and bias.
        activation: scale and zero point of its input, needed for an int32 bias.

    Raises:
        CalibrationError: the weight is not finite.
    """
    weight_node, bias_node = node.args[1], node.args[2]
    assert isinstance(weight_node, fx.Node)
    bias = (
        detached(editor.tensor(bias_node))
        if isinstance(bias_node, fx.Node) and bias_node.op == "get_attr"
        else None
    )
    weight = detached(editor.tensor(weight_node))
    if not all_finite(weight):
        raise CalibrationError(
            "a weight that must be quantized holds NaN or infinity",
            where=where(node),
            fix="check the layer's parameters and batch-norm statistics, or keep it in float",
        )
    groups = int(node.args[_GROUPS[node.target]]) if node.target in TRANSPOSED else 1  # type: ignore[call-overload]
    floor = scale_floor(bias, activation.scale) if int32_bias and activation is not None else None
    if floor is not None and (groups > 1 or spec.axis is None):
        floor = floor.reshape(groups, -1).amax(dim=0) if spec.axis is not None else floor.amax()
    code = quantize_weight(weight, spec, floor)
    with editor.before(node):
        node.update_arg(1, _weight_nodes(editor, weight_node, node, code, spec))
        if int32_bias and bias is not None and activation is not None:
            scales = code.scales.repeat(groups) if code.scales.dim() else code.scales.expand(bias.shape[0])
            node.update_arg(
                2, _bias_nodes(editor, bias_node, node, bias, scales * torch.tensor(activation.scale))
            )  # type: ignore[arg-type]


_GROUPS = dict.fromkeys(TRANSPOSED, 6)


def _weight_nodes(
    editor: Editor, old: fx.Node, reader: fx.Node, code: WeightCode, spec: QuantSpec
) -> fx.Node:
    name = str(old.target)
    codes = editor.constant(code.codes, f"{name}.codes", origins=(reader,))
    if spec.axis is None:
        return editor.call(
            DEQUANTIZE_TENSOR,
            (codes, float(code.scales), 0),
            origins=(reader,),
            suffix=".weight",
            val=old.meta["val"],
        )
    scale = editor.constant(code.scales, f"{name}.scale", origins=(reader,))
    zero = editor.constant(
        torch.zeros_like(code.scales, dtype=torch.int32), f"{name}.zero_point", origins=(reader,)
    )
    return editor.call(
        DEQUANTIZE_CHANNEL,
        (codes, scale, zero, spec.axis),
        origins=(reader,),
        suffix=".weight",
        val=old.meta["val"],
    )


def _bias_nodes(editor: Editor, old: fx.Node, reader: fx.Node, bias: Tensor, scales: Tensor) -> fx.Node:
    scales = scales.to(torch.float32)
    codes = torch.round(bias.double() / scales.double()).clamp(-(2**31), 2**31 - 1).to(torch.int32)
    name = f"{label_of(reader)}.bias"
    nodes = (
        editor.constant(codes, f"{name}.codes", origins=(reader,)),
        editor.constant(scales, f"{name}.scale", origins=(reader,)),
        editor.constant(torch.zeros_like(scales, dtype=torch.int32), f"{name}.zero_point", origins=(reader,)),
    )
    return editor.call(
        DEQUANTIZE_CHANNEL, (*nodes, 0), origins=(reader,), suffix=".bias", val=old.meta["val"]
    )
