"""A program as the ONNX files that TensorRT builds engines from, with all that the device needs to build and check one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.table import extended
from fxc.backends.tensorrt.explicit import quantize_weights
from fxc.backends.tensorrt.kit.copied import copy_kit
from fxc.backends.tensorrt.typed import to_half
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target

MODEL = "model.onnx"
TYPED = "model.typed.onnx"
_UNBUILT = "the engine is to be built on the device: python3 build_engine.py in the bundle's folder"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.onnx`` for TensorRT up to 10.x and ``model.typed.onnx`` for 11; a dynamic batch stays dynamic.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        LegalityError: an operator that has no ONNX form.
    """
    table = extended(lowerings)
    plain = onnx.emit(program, directory / MODEL, opset=target.opset, table=table, rewrite=quantize_weights)
    opset = int(target.options["typed_opset"])
    typed = onnx.emit(program, directory / TYPED, opset=opset, table=table, rewrite=to_half)
    kit = copy_kit(directory, quantized=target.quantized, dynamic=_dynamic(program, plain))
    return replace(
        plain,
        files=(*plain.files, *typed.files, *kit),
        notes=(_UNBUILT, *plain.notes, *typed.notes),
        variants=(typed.model,),
    )


def _dynamic(program: Program, emitted: Emitted) -> dict[str, tuple[int | str, ...]]:
    """Shapes of the inputs that are not all numbers, by tensor name."""
    shapes = {name: spec.shape for name, spec in zip(emitted.inputs, program.tensor_inputs)}
    return {name: shape for name, shape in shapes.items() if not all(isinstance(d, int) for d in shape)}
