"""A program as the files that RKNN-Toolkit2 reads and, where it is installed, as the ``.rknn`` file that it builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.table import extended
from fxc.backends.rknn.build import build, installed, missing, recipe
from fxc.backends.rknn.kit.copied import copy_kit
from fxc.backends.rknn.layers import layers, remarks
from fxc.backends.rknn.names import LOG, MODEL, RANGES, RKNN, SAMPLE, TOOLKIT
from fxc.backends.rknn.toolchain import RKNN as TOOLCHAIN
from fxc.backends.rknn.wide import float_twin, ranges
from fxc.backends.rknn.written import rescale
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.files import write_json
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.target import Target

Table = Mapping[Any, Lowering]

_ONE = "the files take one sample at a time: a batch is run sample by sample"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write the ONNX file, what the toolkit needs beside it, and ``model.rknn`` if it can be built here.

    The batch is 1: the toolkit takes fixed shapes.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        LegalityError: an operator that has no ONNX form.
        ToolchainError: the toolkit is installed and cannot build the file.
    """
    sources = {"int8": _int8, "int16": _int16}.get(target.precision, _float)
    emitted = sources(program, target, directory, extended(lowerings))
    kit = copy_kit(directory, recipe(directory, target))
    notes = (*emitted.notes, _ONE) if program.dynamic else emitted.notes
    emitted = replace(emitted, files=(*emitted.files, *kit), notes=notes)
    if not installed():
        return replace(emitted, notes=(*notes, missing()))
    answer = build(directory, target)
    return replace(
        emitted,
        files=(*emitted.files, RKNN, LOG),
        tools={**emitted.tools, TOOLCHAIN.package: answer["versions"][TOOLCHAIN.package]},
        notes=(*notes, *remarks(layers(directory / LOG), answer["ignored"])),
        variants=(RKNN,),
        varies=(RKNN, LOG),
    )


def _float(program: Program, target: Target, directory: Path, table: Table) -> Emitted:
    return onnx.emit(program, directory / MODEL, opset=target.opset, batch=1, table=table)


def _int8(program: Program, target: Target, directory: Path, table: Table) -> Emitted:
    """What is meant, and the same as the toolkit must read it."""
    meant = _float(program, target, directory, table)
    written = onnx.emit(
        program, directory / TOOLKIT, opset=target.opset, batch=1, table=table, rewrite=rescale
    )
    return replace(meant, files=(*meant.files, *written.files))


def _int16(program: Program, target: Target, directory: Path, table: Table) -> Emitted:
    """The float file, the ranges of its tensors, and one sample that fills them."""
    emitted = _float(float_twin(program), target, directory, table)
    found = ranges(program)
    named = {**emitted.tensors, **_input_names(program, emitted)}
    write_json(directory / RANGES, {named[label]: found[label] for label in sorted(found) if label in named})
    samples = _samples(program, found)
    for name, sample in samples.items():
        np.save(directory / name, sample, allow_pickle=False)
    return replace(emitted, files=(*emitted.files, RANGES, *samples))


def _input_names(program: Program, emitted: Emitted) -> dict[str, str]:
    nodes = (n for n in program.graph.nodes if n.op == "placeholder" and n.meta.get("val") is not None)
    return {label_of(node): name for node, name in zip(nodes, emitted.inputs)}


def _samples(program: Program, found: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray[Any, Any]]:
    """Uniform noise over each input's range, the same every time; what it shows of other tensors is not used."""
    chance = np.random.default_rng(0)
    samples = {}
    nodes = [n for n in program.graph.nodes if n.op == "placeholder"]
    for i, (spec, node) in enumerate(zip(program.tensor_inputs, nodes)):
        shape = [d if isinstance(d, int) else 1 for d in spec.shape]
        low, high = found.get(label_of(node), (0.0, 1.0))
        samples[SAMPLE.format(i)] = chance.uniform(low, high, shape).astype(spec.dtype)
    return samples
