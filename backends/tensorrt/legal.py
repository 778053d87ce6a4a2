"""What TensorRT cannot take of a program, and where its int8 does not pay."""

from __future__ import annotations

from collections.abc import Iterator

from fxc.backends.onnx.legal import violations
from fxc.backends.onnx.table import extended
from fxc.backends.tensorrt.advice import advice
from fxc.backends.tensorrt.dla_legal import check_dla
from fxc.backends.tensorrt.target import on_dla
from fxc.compiler.backend import Violation
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target

_BYTES = (8, 5)


def check(program: Program, target: Target, *, lowerings: Functions = EMPTY) -> list[Violation]:
    """Every operator without an ONNX form at the target's opset, every tensor outside its limits, and where int8 does not pay.

    For the accelerator, every layer that it leaves to the GPU instead.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.
    """
    found = violations(program, opset=target.opset, limits=target.limits, table=extended(lowerings))
    if on_dla(target) and target.scheme is not None:
        return [*found, *check_dla(program, target.scheme)]
    return [*found, *_bytes(program, target), *advice(program, target)]


def _bytes(program: Program, target: Target) -> Iterator[Violation]:
    """Inputs of bytes, which came with TensorRT 8.5 (release notes; ``DataType::kUINT8``)."""
    oldest = target.options.get("oldest")
    if oldest is not None and tuple(map(int, oldest.split("."))) >= _BYTES:
        return
    for spec in program.tensor_inputs:
        if spec.dtype == "uint8":
            yield Violation(
                spec.name,
                None,
                "TensorRT takes uint8 inputs from 8.5 on",
                "leave image_input out for a device with an older one (JetPack 4.6, 5.0)",
                fatal=oldest is not None,
            )
