"""A program as the files that RKNN-Toolkit2 reads and, where it is installed, as the ``.rknn`` file that it builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from fxc.backends.onnx import emit as onnx
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.table import extended
from fxc.backends.rknn import toolkit1
from fxc.backends.rknn.build import build, installed, missing, recipe
from fxc.backends.rknn.image import Normalisation, detached
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

Rewrite = Callable[[gs.Graph], None]

_IMAGE = "the normalisation of the image is in the .rknn file: the board takes bytes"
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
    bare, image = detached(program)
    table = extended(lowerings)
    if "toolkit" in target.options:
        return _first(program, bare, image, target, directory, table)
    if target.precision == "int16":
        emitted = _int16(program, bare, target, directory, table)
    else:
        emitted = _written(program, bare, target, directory, table)
    kit = copy_kit(directory, recipe(directory, target, image))
    notes = (*emitted.notes, *_said(program, image))
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


def _first(
    program: Program,
    bare: Program,
    image: Normalisation | None,
    target: Target,
    directory: Path,
    table: Table,
) -> Emitted:
    emitted = toolkit1.emit(program, bare, directory, table)
    kit = copy_kit(directory, toolkit1.request(directory, target, image), first=True)
    return replace(emitted, files=(*emitted.files, *kit), notes=(*emitted.notes, *_said(program, image)))


def _said(program: Program, image: Normalisation | None) -> tuple[str, ...]:
    return (*([_ONE] if program.dynamic else []), *([_IMAGE] if image else []))


def _onnx(
    program: Program, path: Path, target: Target, table: Table, rewrite: Rewrite | None = None
) -> Emitted:
    return onnx.emit(program, path, opset=target.opset, batch=1, table=table, rewrite=rewrite)


def _written(program: Program, bare: Program, target: Target, directory: Path, table: Table) -> Emitted:
    """What is meant and, where it differs, the same as the toolkit must read it."""
    meant = _onnx(program, directory / MODEL, target, table)
    coded = target.precision == "int8"
    if bare is program and not coded:
        return meant
    written = _onnx(bare, directory / TOOLKIT, target, table, rescale if coded else None)
    return replace(meant, files=(*meant.files, *written.files))


def _int16(program: Program, bare: Program, target: Target, directory: Path, table: Table) -> Emitted:
    """The float file, the ranges of its tensors, and one sample that fills them."""
    emitted = _written(float_twin(program), float_twin(bare), target, directory, table)
    found = ranges(bare)
    named = {**emitted.tensors, **_input_names(bare, emitted)}
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
        low, high = (0, 256) if spec.dtype == "uint8" else found.get(label_of(node), (0.0, 1.0))
        samples[SAMPLE.format(i)] = chance.uniform(low, high, shape).astype(spec.dtype)
    return samples
