"""Apple devices by Core AI, as data.

Rules: Apple's own of eight bits (``backends/apple``), and what coreai-torch 0.4.3 was seen to write and coreai-core 1.0.0b3
to run. The Neural Engine has float16 and eight bits; what is float32 falls back.
"""

from __future__ import annotations

from dataclasses import replace

from fxc.backends.apple.scheme import w8a8
from fxc.compiler.target import Limits, Target

# Apple's quantizer gives each operand of a sum its own scale, and the runtime takes it.
SCHEME = w8a8("coreai-w8a8", share_operands=False)

COREAI_FP16 = Target(
    name="coreai-fp16",
    device="iPhone, Mac and other Apple devices with Core AI (OS 27)",
    precision="fp16",
    backend="coreai",
    format="Core AI aimodel",
    toolchain="coreai-torch",
    extra="coreai",
    limits=Limits(),
    options={"floats": "float16"},
    host="executed",
    channel_multiple=16,
    notes="float16; executed by Apple's own runtime, a pre-release",
)

COREAI_FP32 = replace(
    COREAI_FP16,
    name="coreai-fp32",
    precision="fp32",
    options={"floats": "float32"},
    channel_multiple=1,
    notes="float32, which the Neural Engine has not; executed by Apple's own runtime, a pre-release",
)

COREAI_INT8 = replace(
    COREAI_FP16,
    name="coreai-int8",
    precision="int8",
    scheme=SCHEME,
    notes="w8a8, float16 for the rest; executed by Apple's own runtime, a pre-release",
)

TARGETS = (COREAI_FP16, COREAI_FP32, COREAI_INT8)
