"""A program as the files that RKNN-Toolkit2 reads and, where it is installed, as the ``.rknn`` file that it builds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.table import extended
from fxc.backends.rknn.build import build, config, installed, missing
from fxc.backends.rknn.kit.copied import copy_kit
from fxc.backends.rknn.layers import fallbacks, layers
from fxc.backends.rknn.names import LOG, MODEL, RKNN, TOOLKIT, source
from fxc.backends.rknn.toolchain import RKNN as TOOLCHAIN
from fxc.backends.rknn.written import rescale
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target

_ONE = "the files take one sample at a time: a batch is run sample by sample"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.onnx``, for an int8 target the same as the toolkit must read it, and build ``model.rknn`` if it can be.

    The batch is 1: the toolkit takes fixed shapes.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        LegalityError: an operator that has no ONNX form.
        ToolchainError: the toolkit is installed and cannot build the file.
    """
    table = extended(lowerings)
    plain = onnx.emit(program, directory / MODEL, opset=target.opset, batch=1, table=table)
    files, notes = list(plain.files), list(plain.notes)
    if target.quantized:
        for_toolkit = onnx.emit(
            program, directory / TOOLKIT, opset=target.opset, batch=1, table=table, rewrite=rescale
        )
        files += for_toolkit.files
    files += copy_kit(directory, source(target), config(target))
    if program.dynamic:
        notes.append(_ONE)
    if not installed():
        return replace(plain, files=tuple(files), notes=(*notes, missing()))
    answer = build(directory, target)
    return replace(
        plain,
        files=(*files, RKNN, LOG),
        tools={**plain.tools, TOOLCHAIN.package: answer["versions"][TOOLCHAIN.package]},
        notes=(*notes, *fallbacks(layers(directory / LOG))),
        variants=(RKNN,),
        varies=(RKNN, LOG),
    )
