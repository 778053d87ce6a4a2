"""What OpenVINO cannot take of a program."""

from __future__ import annotations

from fxc.backends.onnx.legal import violations
from fxc.compiler.backend import Violation
from fxc.compiler.program import Program
from fxc.compiler.target import Target


def check(program: Program, target: Target) -> list[Violation]:
    """Every operator without an ONNX form at the target's opset, and every tensor outside its limits."""
    return violations(program, opset=target.opset, limits=target.limits)
