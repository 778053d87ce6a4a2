"""A program as the ONNX files that TensorRT builds engines from, with all that the device needs to build and check one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.table import extended
from fxc.backends.tensorrt import dla
from fxc.backends.tensorrt.explicit import quantize_weights
from fxc.backends.tensorrt.kit.copied import Accelerator, ForVersions, Plan, copy_kit
from fxc.backends.tensorrt.target import on_dla
from fxc.backends.tensorrt.typed import to_half
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.program import Program
from fxc.compiler.target import Target

MODEL = "model.onnx"
TYPED = "model.typed.onnx"
_UNBUILT = "the engine is to be built on the device: python3 build_engine.py in the bundle's folder"
_DLA = f"up to TensorRT 10.7 the device builds from {dla.PLAIN} and {dla.CACHE}; {MODEL} has the same scales, for this host"

_ON_GPU = {
    "plain": ForVersions(MODEL, (8,), (11,), "On the device, TensorRT 8.x and 10.x"),
    "typed": ForVersions(
        TYPED,
        (11,),
        None,
        "TensorRT 11 (from 11.4.1 on JetPack 7.2.2), which computes in the types that the file names",
        typed=True,
    ),
}
_ON_DLA = {
    "plain": ForVersions(dla.PLAIN, (8, 4), (10, 8), "On the device, TensorRT 8.4 to 10.7"),
    "typed": ForVersions(
        TYPED,
        (11, 4, 1),
        None,
        "TensorRT from 11.4.1 on (JetPack 7.2.2), which computes in the types that the file names",
        typed=True,
    ),
}


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.onnx`` for TensorRT up to 10.x and ``model.typed.onnx`` for 11, or the one that the target is narrowed to.

    A dynamic batch stays dynamic. For the accelerator there are files of its own beside ``model.onnx`` (see ``dla.py``).

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        LegalityError: an operator that has no ONNX form.
    """
    table, forms = extended(lowerings), target.options["files"].split()
    written = [_WRITERS[form](program, target, directory, table) for form in forms]
    main, plain = written[0], on_dla(target) and "plain" in forms
    beside = dla.write(program, main, target, directory, table) if plain else None
    kit = copy_kit(directory, _plan(target, forms, _dynamic(program, main), beside))
    notes = (
        _UNBUILT,
        *((_DLA, *beside.notes) if beside else ()),
        *(n for each in written for n in each.notes),
    )
    files = (*(name for each in written for name in each.files), *(beside.files if beside else ()), *kit)
    return replace(main, files=files, notes=notes, variants=tuple(each.model for each in written[1:]))


def _plain(program: Program, target: Target, directory: Path, table: Mapping[Any, Lowering]) -> Emitted:
    return onnx.emit(program, directory / MODEL, opset=target.opset, table=table, rewrite=quantize_weights)


def _typed(program: Program, target: Target, directory: Path, table: Mapping[Any, Lowering]) -> Emitted:
    opset = int(target.options["typed_opset"])
    return onnx.emit(program, directory / TYPED, opset=opset, table=table, rewrite=to_half)


_WRITERS = {"plain": _plain, "typed": _typed}


def _plan(
    target: Target,
    forms: list[str],
    dynamic: dict[str, tuple[int | str, ...]],
    beside: dla.Written | None,
) -> Plan:
    models = _ON_DLA if on_dla(target) else _ON_GPU
    scales = Accelerator(dla.CACHE, dla.LAYERS, bool(beside.fp16)) if beside else Accelerator()
    accelerator = scales if on_dla(target) else None
    chosen = tuple(models[form] for form in forms)
    return Plan(target.quantized, chosen, dynamic, accelerator, target.made_for)


def _dynamic(program: Program, emitted: Emitted) -> dict[str, tuple[int | str, ...]]:
    """Shapes of the inputs that are not all numbers, by tensor name."""
    shapes = {name: spec.shape for name, spec in zip(emitted.inputs, program.tensor_inputs)}
    return {name: shape for name, shape in shapes.items() if not all(isinstance(d, int) for d in shape)}
