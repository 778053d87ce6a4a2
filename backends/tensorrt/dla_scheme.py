"""Quantization for the deep learning accelerator of Xavier and Orin, as data: a scale at every tensor that it touches.

Rules: TensorRT developer guide, "Working with DLA", layer support and restrictions; NVIDIA's Q/DQ translator for DLA.
"""

from __future__ import annotations

from fxc.compiler.quant import I8, I8_WEIGHT, MOVES, OpRule, QuantScheme

FUSED = ("relu", "hardtanh", "clamp")
"""Between a layer and these there is no tensor: what the scale behind them cuts off, they cut off too."""

_MOVES = (*MOVES, "max_pool2d", "pixel_shuffle", "upsample_bilinear2d", "channel_shuffle")
_NOT_THERE = "the accelerator has no such operator; it runs on the GPU in fp16"
_NORM = "the accelerator has no normalization; it runs on the GPU in fp16"
_ATTENTION = "the accelerator multiplies by constant weights only; products of tensors run on the GPU in fp16"

DLA_SCHEME = QuantScheme(
    name="tensorrt-dla-i8",
    rules=(
        OpRule(
            ("conv2d", "conv_transpose2d"),
            "mac",
            inputs=I8,
            weight=I8_WEIGHT,
            bias="float",
            output=I8,
            fuses=FUSED,
        ),
        OpRule(
            ("linear",), "mac", inputs=I8, weight=I8_WEIGHT, bias="float", output=I8, fuses=FUSED, max_rank=2
        ),
        # Codes are added as they are: both operands have one scale. That costs the sum no more than its own rounding does.
        OpRule(("add", "sub"), "join", inputs=I8, output=I8, share_operands=True, fuses=FUSED),
        # Branches whose ranges differ by far keep their scales, and the GPU joins them.
        OpRule(("cat",), "join", inputs=I8, output=I8, share=True),
        # The codes of what pools, moves or interpolates have the scale that they had before.
        OpRule(("avg_pool2d", *_MOVES), "follow", inputs=I8, output=I8, share=True),
        OpRule(
            ("relu", "hardtanh", "clamp", "leaky_relu", "sigmoid", "tanh"), "follow", inputs=I8, output=I8
        ),
    ),
    keep_float={
        "mul": "the accelerator multiplies codes of one scale: a gate in the scale of what it gates has few codes left; "
        "it runs on the GPU in fp16",
        "linear": "a linear layer over tokens runs on the GPU in fp16",
        "adaptive_avg_pool2d": "the accelerator pools windows of up to 8 by 8; it runs on the GPU in fp16",
        "conv1d": "the accelerator convolves images only; it runs on the GPU in fp16",
        "conv3d": "the accelerator convolves images only; it runs on the GPU in fp16",
        "layer_norm": _NORM,
        "group_norm": _NORM,
        "batch_norm": _NORM,
        "softmax": _NOT_THERE,
        "silu": _NOT_THERE,
        "gelu": _NOT_THERE,
        "hardswish": _NOT_THERE,
        "hardsigmoid": _NOT_THERE,
        "elu": _NOT_THERE,
        "mish": _NOT_THERE,
        "matmul": _ATTENTION,
        "bmm": _ATTENTION,
        "scaled_dot_product_attention": _ATTENTION,
    },
)
"""Symmetric int8, weights per channel, biases in float, and every tensor coded, results of the network included."""
