"""What Acme's simulator cannot take."""

from fxc.backends.onnx.legal import violations
from fxc.backends.onnx.table import extended
from fxc.compiler.backend import Violation
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target


def check(program: Program, target: Target, *, lowerings: Functions = EMPTY) -> list[Violation]:
    """Every operator without an ONNX form."""
    return violations(program, opset=target.opset, limits=target.limits, table=extended(lowerings))
