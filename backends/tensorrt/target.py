"""NVIDIA GPUs, Jetson's first, by TensorRT: explicit quantization as data.

Rules: TensorRT developer guide, "Working with quantized types", explicit quantization and placement recommendations.
"""

from __future__ import annotations

from dataclasses import replace

from fxc.backends.tensorrt.dla_scheme import DLA_SCHEME
from fxc.compiler.quant import ACTIVATIONS, CONVOLUTIONS, I8, I8_WEIGHT, MOVES, OpRule, QuantScheme
from fxc.compiler.target import Limits, Target, Versions

_MOVES = (*MOVES, "max_pool2d", "pixel_shuffle", "channel_shuffle")
_ATTENTION = (
    "TensorRT runs attention as one fp16 kernel; its products would be requantized around the softmax"
)
_NORM = "normalization is computed in float; its output is requantized by the layer that reads it"

SCHEME = QuantScheme(
    name="tensorrt-i8",
    rules=(
        # A quantizer on every input of what multiplies, none on its output unless a reader wants one, and none between a
        # convolution and its activation.
        OpRule(CONVOLUTIONS, "mac", inputs=I8, weight=I8_WEIGHT, bias="float", fuses=ACTIVATIONS),
        OpRule(("linear",), "mac", inputs=I8, weight=I8_WEIGHT, bias="float", fuses=ACTIVATIONS, max_rank=2),
        # A transformer's residual sum stays float: quantized it loses 15 dB.
        OpRule(
            ("linear",),
            "mac",
            inputs=I8,
            weight=I8_WEIGHT,
            bias="float",
            fuses=ACTIVATIONS,
            yields=False,
            min_rank=3,
        ),
        # A convolution's kernel adds the other branch before it requantizes, so its own result is never coded.
        OpRule(("add",), "join", inputs=I8, absorbs=(*CONVOLUTIONS, "linear"), fuses=("relu",)),
        OpRule(("cat",), "join", inputs=I8, share=True),
        OpRule(("adaptive_avg_pool2d", "avg_pool2d"), "follow", inputs=I8),
        # Quantizers move across these by themselves.
        OpRule(_MOVES, "carry"),
    ),
    keep_float={
        "mul": "TensorRT computes an elementwise product in fp16 beside what it fuses with; the reader requantizes",
        "layer_norm": _NORM,
        "group_norm": _NORM,
        "softmax": "softmax is computed in float",
        "matmul": _ATTENTION,
        "bmm": _ATTENTION,
        "scaled_dot_product_attention": _ATTENTION,
        "upsample_bilinear2d": "TensorRT interpolates in float",
    },
)
"""Explicit quantization: symmetric int8, weights per channel, biases in float."""

_JETSON = "NVIDIA Jetson"
_GPU = "NVIDIA GPU"
_NARROW = "fxc.backends.tensorrt.versions:narrow"
_OF_JETSON, _OF_GPU = Versions(("jetpack", "tensorrt"), _NARROW), Versions(("tensorrt",), _NARROW)

JETSON_INT8 = Target(
    name="jetson-int8",
    device=_JETSON,
    precision="int8",
    backend="tensorrt",
    format="ONNX Q/DQ for TensorRT",
    toolchain="tensorrt",
    extra="cpu",
    scheme=SCHEME,
    opset=17,
    options={"line": "jetson", "files": "plain typed", "typed_opset": "19"},
    host="simulated",
    channel_multiple=32,
    notes="int8, fp16 for the rest; the engine is built on the device",
    versions=_OF_JETSON,
)

JETSON_FP16 = replace(
    JETSON_INT8,
    name="jetson-fp16",
    precision="fp16",
    format="ONNX for TensorRT",
    scheme=None,
    channel_multiple=8,
    notes="fp16; the engine is built on the device",
)

JETSON_INT8_DLA = replace(
    JETSON_INT8,
    name="jetson-int8-dla",
    device="NVIDIA Jetson, deep learning accelerator",
    format="ONNX and a calibration cache for TensorRT",
    scheme=DLA_SCHEME,
    limits=Limits(static_shapes=True),
    options={**JETSON_INT8.options, "line": "dla", "oldest": "8.5"},
    notes="int8 on the accelerator of Xavier and Orin, the GPU for what it has not; fixed shapes; the engine is built on the device",
)

_OTHER = {**JETSON_INT8.options, "line": "gpu"}
TENSORRT_INT8 = replace(JETSON_INT8, name="tensorrt-int8", device=_GPU, options=_OTHER, versions=_OF_GPU)
TENSORRT_FP16 = replace(JETSON_FP16, name="tensorrt-fp16", device=_GPU, options=_OTHER, versions=_OF_GPU)

TARGETS = (JETSON_INT8, JETSON_FP16, JETSON_INT8_DLA, TENSORRT_INT8, TENSORRT_FP16)


def on_dla(target: Target) -> bool:
    """Whether a target is the accelerator's rather than the GPU's."""
    return target.options["line"] == "dla"
