"""A program as the file that Acme's simulator loads."""

from dataclasses import replace
from pathlib import Path

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.table import extended
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``acme.onnx``."""
    path = directory / "acme.onnx"
    emitted = onnx.emit(program, path, opset=target.opset, table=extended(lowerings))
    return replace(emitted, notes=("written for Acme's simulator",))
