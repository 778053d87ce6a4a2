"""Apple devices by Core ML, as data.

Rules: coremltools 9.0's MIL operator reference (which operator exists from which iOS on) and its PyTorch quantizer (what runs
in eight bits: a layer between dequantize and quantize).
"""

from __future__ import annotations

from dataclasses import replace

from fxc.backends.apple.scheme import w8a8
from fxc.compiler.target import Limits, Target, Versions

# coremltools moves one scale out of a sum, so that both operands must have it.
SCHEME = w8a8("coreml-w8a8", share_operands=True)

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
