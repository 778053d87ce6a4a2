"""Apple devices by Core ML, as data.

Rules: coremltools 9.0's MIL operator reference (which operator exists from which iOS on) and its PyTorch quantizer (what runs
in eight bits: a layer between dequantize and quantize).
"""

from __future__ import annotations

from dataclasses import replace

from fxc.compiler.quant import CONVOLUTIONS, I8_WEIGHT, MOVES, OpRule, QuantScheme, QuantSpec
from fxc.compiler.target import Limits, Target, Versions

A8 = QuantSpec(dtype="uint8", qmin=0, qmax=255, symmetric=True, one_sided=True, scale_kind="f16")
"""Activations: the zero is code 128, or 0 for a tensor without negative numbers."""

W8 = I8_WEIGHT.but(scale_kind="f16")
"""Weights per output channel. Scales are float16 in the file, so they are in the graph."""

FUSED = ("relu", "hardtanh", "clamp", "leaky_relu", "elu", "gelu", "hardsigmoid", "sigmoid", "silu", "tanh")
"""Activations that are one operator in Core ML; what is several has quantizers on both sides."""

_MOVES = (*MOVES, "pixel_shuffle", "channel_shuffle")
_NORM = "normalization is computed in float16; its output is requantized by the layer that reads it"
_ATTENTION = "attention is computed in float16: between quantizers its parts would not fuse"

SCHEME = QuantScheme(
    name="coreml-w8a8",
    rules=(
        # What runs in eight bits stands between dequantize and quantize, its activation with it.
        OpRule(CONVOLUTIONS, "mac", inputs=A8, weight=W8, bias="float", output=A8, fuses=FUSED),
        OpRule(("linear",), "mac", inputs=A8, weight=W8, bias="float", output=A8, fuses=FUSED, max_rank=2),
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
        # coremltools moves one scale out of a sum, so that both operands must have it.
        OpRule(("add",), "join", inputs=A8, output=A8, share_operands=True, fuses=FUSED),
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
"""Symmetric codes of eight bits, weights per channel, biases in float."""

_NARROW = "fxc.backends.coreml.versions:narrow"
_WORDS = ("ios", "batches", "labels", "about")
_VERSIONS = Versions((*_WORDS, "ane"), _NARROW)
_APPLE = "iPhone and other Apple devices"

IPHONE_FP16 = Target(
    name="iphone-fp16",
    device=_APPLE,
    precision="fp16",
    backend="coreml",
    format="Core ML mlprogram",
    toolchain="coremltools",
    extra="coreml",
    limits=Limits(max_rank=5),
    options={"ios": "16", "oldest": "15", "proof_precision": "f32"},
    host="executed",
    channel_multiple=16,
    notes="float16; executed by fxc's own evaluator",
    versions=_VERSIONS,
)

IPHONE_FP32 = replace(
    IPHONE_FP16,
    name="iphone-fp32",
    precision="fp32",
    channel_multiple=1,
    notes="float32, which the Neural Engine has not",
    versions=Versions(_WORDS, _NARROW),
)

IPHONE_INT8 = replace(
    IPHONE_FP16,
    name="iphone-int8",
    precision="int8",
    scheme=SCHEME,
    options={**IPHONE_FP16.options, "ios": "17", "oldest": "17"},
    notes="w8a8, float16 for the rest; fast on A17 Pro, M4 and newer; executed by fxc's own evaluator",
)

IPHONE_W8 = replace(
    IPHONE_FP16,
    name="iphone-w8",
    precision="w8",
    options={**IPHONE_FP16.options, "oldest": "16"},
    notes="weights in eight bits, float16 otherwise; executed by fxc's own evaluator",
)

IPHONE_W4 = replace(
    IPHONE_FP16,
    name="iphone-w4",
    precision="w4",
    options={**IPHONE_FP16.options, "ios": "18", "oldest": "18"},
    notes="weights in four bits, float16 otherwise; executed by fxc's own evaluator",
)

TARGETS = (IPHONE_FP16, IPHONE_FP32, IPHONE_INT8, IPHONE_W8, IPHONE_W4)
