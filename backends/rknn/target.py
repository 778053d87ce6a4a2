"""Rockchip NPUs by RKNN-Toolkit2: what its Q/DQ import takes, as data.

Sources: RKNN-Toolkit2 2.3.2's manual (quantization, operator limits) and what version 2.5.0 was seen to build and simulate.
"""

from __future__ import annotations

from dataclasses import replace

from fxc.compiler.quant import CONVOLUTIONS, MOVES, OpRule, QuantScheme, QuantSpec
from fxc.compiler.target import Limits, Speed, Target

A8 = QuantSpec(dtype="int8", qmin=-128, qmax=127)
"""Activations: affine, per tensor."""

W8 = QuantSpec(dtype="int8", qmin=-127, qmax=126, symmetric=True, axis=0)
"""Weights: per output channel. The toolkit makes symmetric scales 128/127 as large and requantizes: 127 would not survive."""

A16 = QuantSpec(dtype="int16", qmin=-32768, qmax=32767, symmetric=True, scale_kind="pow2")
W16 = A16.but(qmin=-32767, axis=0)
"""Dynamic fixed point: scales are powers of two."""

_NORM = "normalization is computed in float16; its output is requantized by the layer that reads it"
_ATTENTION = "attention's products are computed in float16: their operands come out of float operators"

_CURVES = (
    "sigmoid",
    "hardsigmoid",
    "hardswish",
    "silu",
    "tanh",
    "leaky_relu",
    "elu",
    "mish",
    "gelu",
    "clamp",
)
_MOVES = (*MOVES, "pixel_shuffle", "pixel_unshuffle")

SCHEME = QuantScheme(
    name="rknn-w8a8",
    rules=(
        OpRule(
            CONVOLUTIONS, "mac", inputs=A8, weight=W8, bias="int32", output=A8, fuses=("relu", "hardtanh")
        ),
        OpRule(
            ("linear",),
            "mac",
            inputs=A8,
            weight=W8,
            bias="int32",
            output=A8,
            fuses=("relu", "hardtanh"),
            max_rank=2,
        ),
        # Behind a dequantizer the toolkit gives an operator its input's scale, so every result is coded, also a last one.
        OpRule(("add",), "join", inputs=A8, output=A8, fuses=("relu",)),
        OpRule(("mul",), "join", inputs=A8, output=A8),
        OpRule(("cat",), "join", inputs=A8, output=A8, share=True),
        OpRule(
            ("adaptive_avg_pool2d", "avg_pool2d", "upsample_bilinear2d", *_CURVES),
            "follow",
            inputs=A8,
            output=A8,
        ),
        OpRule(("max_pool2d", *_MOVES), "follow", inputs=A8, output=A8, share=True),
    ),
    fixed_output={"sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0)},
    keep_float={
        "linear": "RKNN-Toolkit2 computes a product of rank 3 or more in float16, whatever the file says",
        "layer_norm": _NORM,
        "group_norm": _NORM,
        "softmax": "softmax is computed in float16",
        "matmul": _ATTENTION,
        "bmm": _ATTENTION,
        "scaled_dot_product_attention": _ATTENTION,
    },
)
"""Everything that can be is int8: the NPU converts at every border to float16."""


def _wide(rule: OpRule) -> OpRule:
    return replace(
        rule,
        inputs=A16,
        weight=W16 if rule.weight else None,
        output=A16 if rule.output else None,
        bias="float",
    )


SCHEME16 = replace(SCHEME, name="rknn-w16a16", rules=tuple(_wide(r) for r in SCHEME.rules), fixed_output={})
"""The same in sixteen bits."""


def _int8(platform: str) -> Target:
    return Target(
        name=f"{platform}-int8",
        device=f"Rockchip {platform.upper()}",
        precision="int8",
        backend="rknn",
        format="RKNN",
        toolchain="rknn-toolkit2",
        extra="cpu",
        scheme=SCHEME,
        limits=Limits(static_shapes=True),
        opset=17,
        options={"platform": platform},
        host="simulated",
        channel_multiple=32,
        notes="w8a8, float16 for the rest; needs fxc toolchain install rknn",
    )


def _fp16(platform: str) -> Target:
    return replace(
        _int8(platform),
        name=f"{platform}-fp16",
        precision="fp16",
        scheme=None,
        channel_multiple=16,
        notes="float16; needs fxc toolchain install rknn",
    )


def _int16(platform: str) -> Target:
    return replace(
        _int8(platform),
        name=f"{platform}-int16",
        precision="int16",
        scheme=SCHEME16,
        options={"platform": platform, "dtype": "w16a16i_dfp"},
        notes="w16a16; the toolkit quantizes, with our ranges; needs fxc toolchain install rknn",
    )


def _first(platform: str) -> Target:
    """For the toolkit's first generation, which quantizes by itself."""
    return replace(
        _int8(platform),
        name=f"{platform}-int8",
        toolchain="rknn-toolkit",
        scheme=None,
        opset=13,
        options={"platform": platform, "toolkit": "1"},
        host="emitted",
        samples=True,
        notes="files for RKNN-Toolkit 1.7, which quantizes by itself and is not on PyPI: not run",
    )


_RK3588 = (
    "one of the three cores, on which a model runs by itself: 1024 int8 or 512 float16 or int16 multiply-accumulates per cycle "
    "(RK3588 TRM, part 1, 36.1) at 1 GHz; memory of 64 bits at 4224 million transfers per second, the most that boards carry"
)


def _rk3588(target: Target, bytes_each: int) -> Target:
    speed = Speed(macs=1.024e12 / bytes_each, bandwidth=33.8e9, bytes_each=bytes_each, source=_RK3588)
    return replace(target, speed=speed)


RK3588_INT8, RK3588_FP16 = _rk3588(_int8("rk3588"), 1), _rk3588(_fp16("rk3588"), 2)
RK3576_INT8, RK3576_FP16 = _int8("rk3576"), _fp16("rk3576")
RK3568_INT8, RK3568_FP16 = _int8("rk3568"), _fp16("rk3568")
RK3566_INT8, RK3566_FP16 = _int8("rk3566"), _fp16("rk3566")
RK3562_INT8, RK3562_FP16 = _int8("rk3562"), _fp16("rk3562")
RV1126B_INT8, RV1126B_FP16 = _int8("rv1126b"), _fp16("rv1126b")
RV1106_INT8, RV1106B_INT8 = _int8("rv1106"), _int8("rv1106b")
RV1103_INT8, RV1103B_INT8 = _int8("rv1103"), _int8("rv1103b")
RK3588_INT16, RK3576_INT16, RK3568_INT16 = _rk3588(_int16("rk3588"), 2), _int16("rk3576"), _int16("rk3568")
RK3562_INT16, RV1126B_INT16, RV1106_INT16 = _int16("rk3562"), _int16("rv1126b"), _int16("rv1106")
RV1126_INT8, RV1109_INT8 = _first("rv1126"), _first("rv1109")

TARGETS = (
    RK3588_INT8,
    RK3588_FP16,
    RK3588_INT16,
    RK3576_INT8,
    RK3576_FP16,
    RK3576_INT16,
    RK3568_INT8,
    RK3568_FP16,
    RK3568_INT16,
    RK3566_INT8,
    RK3566_FP16,
    RK3562_INT8,
    RK3562_FP16,
    RK3562_INT16,
    RV1126B_INT8,
    RV1126B_FP16,
    RV1126B_INT16,
    RV1106_INT8,
    RV1106_INT16,
    RV1106B_INT8,
    RV1103_INT8,
    RV1103B_INT8,
    RV1126_INT8,
    RV1109_INT8,
)
