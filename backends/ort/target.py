"""CPUs, run by ONNX Runtime: what its graph optimizer turns into integer kernels, as data.

A Q/DQ group becomes a ``QLinear…`` kernel only where every input and the output of the operator is quantized, so a
convolution is always followed by a quantizer, and an activation that ONNX Runtime does not absorb comes after it.
"""

from __future__ import annotations

from fxc.compiler.quant import I8, I8_WEIGHT, MOVES, U8, OpRule, QuantScheme
from fxc.compiler.target import Target

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")

_ALMOST_ONE = 1.0 - 2.0**-24
"""The integer softmax of ONNX Runtime 1.31 scales by floor(1 / scale): 254 for the float32 nearest to 1/255, 255 below it."""

SCHEME = QuantScheme(
    name="onnxruntime-u8i8",
    rules=(
        OpRule(
            _CONVOLUTIONS,
            "mac",
            inputs=U8,
            weight=I8_WEIGHT,
            bias="int32",
            output=U8,
            fuses=("relu", "hardtanh"),
        ),
        OpRule(("linear",), "mac", inputs=U8, weight=I8_WEIGHT, bias="int32", max_rank=2),
        # Above rank 2 a linear is a MatMul and an Add; i8 and u8 run equally fast there. A transformer's residual sum
        # stays float: quantized it loses 15 dB.
        OpRule(
            ("linear",),
            "mac",
            inputs=I8,
            inputs_after={"gelu": U8, "relu": U8, "silu": U8},
            weight=I8_WEIGHT,
            bias="int32",
            yields=False,
            min_rank=3,
        ),
        OpRule(("add",), "join", inputs=U8, fuses=("relu",)),
        OpRule(("mul",), "join", inputs=U8),
        OpRule(("cat",), "join", inputs=U8, share=True),
        OpRule(("adaptive_avg_pool2d", "avg_pool2d", "sigmoid", "leaky_relu"), "follow", inputs=U8),
        OpRule(("max_pool2d",), "follow", inputs=U8, share=True),
        OpRule(MOVES, "follow", inputs=U8, share=True),
    ),
    fixed_output={"sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, _ALMOST_ONE)},
    keep_float={
        "matmul": "ONNX Runtime runs attention products faster in float than between requantizations",
        "bmm": "ONNX Runtime runs attention products faster in float than between requantizations",
        "scaled_dot_product_attention": "ONNX Runtime runs attention faster in float than between requantizations",
        "conv_transpose1d": "ONNX Runtime has no integer transposed convolution",
        "conv_transpose2d": "ONNX Runtime has no integer transposed convolution",
        "conv_transpose3d": "ONNX Runtime has no integer transposed convolution",
        "silu": "ONNX Runtime has no integer SiLU kernel; its output is requantized by the layer that reads it",
        "hardswish": "ONNX Runtime has no integer HardSwish kernel; its output is requantized by the layer that reads it",
        "hardsigmoid": "ONNX Runtime has no integer HardSigmoid kernel",
        "gelu": "ONNX Runtime has no integer GELU kernel; its output is requantized by the layer that reads it",
        "layer_norm": "normalization is computed in float; its output is requantized by the layer that reads it",
        "group_norm": "normalization is computed in float; its output is requantized by the layer that reads it",
        "softmax": "softmax is computed in float",
        "upsample_bilinear2d": "ONNX Runtime interpolates in float",
    },
    mix_signs=False,
)
"""Quantization habits of ONNX Runtime's CPU provider."""

ORT_INT8 = Target(
    name="ort-int8",
    device="CPU",
    precision="int8",
    backend="ort",
    format="ONNX Q/DQ",
    toolchain="onnxruntime",
    extra="cpu",
    scheme=SCHEME,
    opset=17,
    notes="run by ONNX Runtime's CPU provider",
)

ORT_FP32 = Target(
    name="ort-fp32",
    device="CPU",
    precision="fp32",
    backend="ort",
    format="ONNX",
    toolchain="onnxruntime",
    extra="cpu",
    opset=17,
    notes="run by ONNX Runtime's CPU provider",
)

TARGETS = (ORT_INT8, ORT_FP32)
