"""A program as the ONNX file that OpenVINO loads."""

from __future__ import annotations

from pathlib import Path

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.matmul import NEVER_BARE
from fxc.backends.onnx.table import extended
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target

MODEL = "model.onnx"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.onnx``; a dynamic batch stays dynamic in the file.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        LegalityError: an operator that has no ONNX form.
    """
    own = {operator: form for operator, form in NEVER_BARE.items() if operator not in lowerings}
    return onnx.emit(program, directory / MODEL, opset=target.opset, table={**extended(lowerings), **own})
