"""Apple's rules of eight bits: which tensors take which codes and which share a scale.

Sources: coremltools 9.0's PyTorch quantizer and coreai-opt's defaults: symmetric codes, weights per output channel, one
quantizer over pooling, reshapes and concatenation.
"""

from __future__ import annotations

from fxc.compiler.quant import CONVOLUTIONS, I8_WEIGHT, MOVES, OpRule, QuantScheme, QuantSpec

A8 = QuantSpec(dtype="uint8", qmin=0, qmax=255, symmetric=True, one_sided=True, scale_kind="f16")
"""Activations: the zero is code 128, or 0 for a tensor without negative numbers."""

W8 = I8_WEIGHT.but(scale_kind="f16")
"""Weights per output channel. Scales are float16 in the file, so they are in the graph."""

FUSED = ("relu", "hardtanh", "clamp", "leaky_relu", "elu", "gelu", "hardsigmoid", "sigmoid", "silu", "tanh")
"""Activations that are one operator in Apple's formats; what is several has quantizers on both sides."""

_MOVES = (*MOVES, "pixel_shuffle", "channel_shuffle")
_NORM = "normalization is computed in float16; its output is requantized by the layer that reads it"
_ATTENTION = "attention is computed in float16: between quantizers its parts would not fuse"


def w8a8(name: str, *, share_operands: bool) -> QuantScheme:
    """Symmetric codes of eight bits, weights per channel, biases in float.

    Args:
        name: of the scheme.
        share_operands: whether both operands of a sum must have one scale.
    """
    return QuantScheme(
        name=name,
        rules=(
            # What runs in eight bits stands between dequantize and quantize, its activation with it.
            OpRule(CONVOLUTIONS, "mac", inputs=A8, weight=W8, bias="float", output=A8, fuses=FUSED),
            OpRule(
                ("linear",), "mac", inputs=A8, weight=W8, bias="float", output=A8, fuses=FUSED, max_rank=2
            ),
            # A transformer's residual sum stays float: quantized it loses 15 dB.
            OpRule(
                ("linear",),
                "mac",
                inputs=A8,
                weight=W8,
                bias="float",
                output=A8,
                fuses=FUSED,
                yields=False,
                min_rank=3,
            ),
            OpRule(("add",), "join", inputs=A8, output=A8, share_operands=share_operands, fuses=FUSED),
            OpRule(("mul",), "join", inputs=A8, output=A8, fuses=FUSED),
            OpRule(("cat",), "join", inputs=A8, output=A8, share=True),
            OpRule(("hardswish", "mish"), "follow", inputs=A8, output=A8),
            OpRule(
                ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", *_MOVES),
                "follow",
                inputs=A8,
                output=A8,
                share=True,
            ),
        ),
        keep_float={
            "layer_norm": _NORM,
            "group_norm": _NORM,
            "softmax": "softmax is computed in float16",
            "matmul": _ATTENTION,
            "bmm": _ATTENTION,
            "scaled_dot_product_attention": _ATTENTION,
            "upsample_bilinear2d": "interpolation is computed in float16",
        },
    )
