"""Apple devices by Core ML, as data.

Rules: coremltools 9.0's MIL operator reference (which operator exists from which iOS on) and its PyTorch quantizer (what runs
in eight bits: a layer between dequantize and quantize).
"""

from __future__ import annotations

from dataclasses import replace

from fxc.compiler.target import Limits, Target, Versions

_VERSIONS = Versions(("ios",), "fxc.backends.coreml.versions:narrow")
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
)

TARGETS = (IPHONE_FP16, IPHONE_FP32)
