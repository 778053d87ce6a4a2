"""Acme's targets, as data: no torch here, so that ``fxc targets`` stays instant."""

from fxc.compiler.quant import I8_WEIGHT, U8, OpRule, QuantScheme
from fxc.compiler.target import Target

SCHEME = QuantScheme(
    name="acme-u8i8",
    rules=(
        OpRule(("conv2d",), "mac", inputs=U8, weight=I8_WEIGHT, bias="int32", output=U8, fuses=("relu",)),
        # A flip moves numbers and computes none: both sides share one scale.
        OpRule(("acme.flip_channels",), "follow", inputs=U8, share=True),
    ),
    keep_float={
        "acme.soft_gate": "Acme's gate unit computes in float",
        "linear": "Acme has no integer linear",
    },
)

ACME_INT8 = Target(
    name="acme-int8",
    device="Acme A1",
    precision="int8",
    backend="ort",
    format="ONNX Q/DQ",
    toolchain="onnxruntime",
    extra="cpu",
    scheme=SCHEME,
    notes="run by ONNX Runtime's room of fxc, with Acme's scheme",
)

ACME_FP32 = Target(
    name="acme-fp32",
    device="Acme A1 simulator",
    precision="fp32",
    backend="acme",
    format="ONNX",
    toolchain="onnx",
    extra="",
    host="simulated",
    notes="run by the reference evaluator of the onnx package",
)
