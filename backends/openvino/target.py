"""x86 CPUs, run by OpenVINO: what its kernels take in integers, as data.

Placement follows what the CPU plugin was seen to run in integer kernels (the execution graph's ``primitiveType``):
activations u8 affine, weights i8 per output channel, a convolution's activation fused before the quantizer.
"""

from __future__ import annotations

from fxc.compiler.quant import ACTIVATIONS, CONVOLUTIONS, I8, I8_WEIGHT, MOVES, U8, OpRule, QuantScheme
from fxc.compiler.target import Target

_MOVES = (*MOVES, "pixel_shuffle")

_MIXES = (
    "an average weighed by a softmax stays in float: in int8 it costs 7 dB on ViT-B/16 and 1 dB on Swin-T for 5 % and "
    "1 % of their time"
)
_FLAT = "only products of batches of matrices, which attention is made of, are known to pay in int8"

SCHEME = QuantScheme(
    name="openvino-u8i8",
    rules=(
        OpRule(CONVOLUTIONS, "mac", inputs=U8, weight=I8_WEIGHT, bias="int32", fuses=ACTIVATIONS),
        # Quantized, a linear over one vector comes out of the plugin as a matrix of one row.
        OpRule(
            ("linear",),
            "mac",
            inputs=U8,
            weight=I8_WEIGHT,
            bias="int32",
            fuses=ACTIVATIONS,
            min_rank=2,
            max_rank=2,
        ),
        # u8 with a zero point costs a matrix product a kernel of its own; symmetric i8 does not. Only what comes out
        # of a GELU is one-sided enough to be worth it. A transformer's residual sum stays float: quantized it loses 15 dB.
        OpRule(
            ("linear",),
            "mac",
            inputs=I8,
            inputs_after={"gelu": U8, "relu": U8, "silu": U8},
            weight=I8_WEIGHT,
            bias="int32",
            fuses=ACTIVATIONS,
            yields=False,
            min_rank=3,
        ),
        # Queries with keys. OpenVINO runs both products of attention and the softmax between them as one kernel, which
        # takes codes without zero points; it is faster with the first product on integers, and the output hardly moves.
        OpRule(
            ("matmul", "bmm"), "mac", inputs=I8, float_after={"softmax": _MIXES}, yields=False, min_rank=3
        ),
        OpRule(("add",), "join", inputs=U8, fuses=("relu",)),
        OpRule(("cat",), "join", inputs=U8, share=True),
        OpRule(("adaptive_avg_pool2d", "avg_pool2d"), "follow", inputs=U8),
        OpRule(("max_pool2d",), "follow", inputs=U8, share=True),
        OpRule(_MOVES, "follow", inputs=U8, share=True),
    ),
    fixed_output={"sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0)},
    keep_float={
        "linear": "OpenVINO's integer product of a single vector returns another shape",
        "mul": "OpenVINO runs an elementwise product faster in float than between requantizations",
        "layer_norm": "normalization is computed in float; its output is requantized by the layer that reads it",
        "group_norm": "normalization is computed in float; its output is requantized by the layer that reads it",
        "softmax": "softmax is computed in float; its output is requantized by the product that reads it",
        "matmul": _FLAT,
        "bmm": _FLAT,
        "scaled_dot_product_attention": "attention whose heads share keys, or with dropout, stays whole",
        "upsample_bilinear2d": "OpenVINO interpolates in float",
    },
)
"""Quantization habits of the OpenVINO CPU plugin."""

_DEVICE = "x86 CPU"

CPU_INT8 = Target(
    name="cpu-int8",
    device=_DEVICE,
    precision="int8",
    backend="openvino",
    format="ONNX Q/DQ",
    toolchain="openvino",
    extra="cpu",
    scheme=SCHEME,
    opset=17,
    options={"precision": "f32", "proof_precision": "f32"},
    notes="run by OpenVINO; float islands in f32",
)

CPU_FP32 = Target(
    name="cpu-fp32",
    device=_DEVICE,
    precision="fp32",
    backend="openvino",
    format="ONNX",
    toolchain="openvino",
    extra="cpu",
    opset=17,
    options={"precision": "f32", "proof_precision": "f32"},
    notes="run by OpenVINO in f32",
)

CPU_BF16 = Target(
    name="cpu-bf16",
    device="x86 CPU with AMX or AVX512-BF16",
    precision="bf16",
    backend="openvino",
    format="ONNX",
    toolchain="openvino",
    extra="cpu",
    opset=17,
    options={"precision": "bf16", "proof_precision": "bf16"},
    notes="run by OpenVINO with float32 weights in the file and bf16 arithmetic",
)

TARGETS = (CPU_INT8, CPU_FP32, CPU_BF16)
