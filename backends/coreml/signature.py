"""What a model takes and gives: batches, images, classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from fxc.backends.apple.export import batch_of
from fxc.backends.coreml.versions import Batches, parsed_batches
from fxc.compiler.errors import LegalityError
from fxc.compiler.origin import identifier
from fxc.compiler.program import InputSpec, Program
from fxc.compiler.target import Target


def batches_of(program: Program, target: Target) -> Batches:
    """The batch in the file: what the target says, or 1, from which a larger one is put together.

    An output that does not lead with the batch fixes it to the example's.

    Raises:
        LegalityError: the target says what the model cannot.
    """
    if (text := target.options.get("batches")) is not None:
        _check(program, text)
        return parsed_batches(text)
    size = batch_of(program)
    return Batches(size, (size,))


def _check(program: Program, text: str) -> None:
    if not program.dynamic:
        raise LegalityError(
            f"{program.name} cannot take batches of {text}",
            why="its batch is fixed",
            fix="capture it with a dynamic batch, or leave the batches out",
        )
    if any(s.dtype == "uint8" for s in program.tensor_inputs):
        raise LegalityError(
            f"{program.name} cannot take batches of {text}",
            why="an image input of Core ML is one image",
            fix="leave the batches or the image input out",
        )


def _leads(spec: InputSpec) -> bool:
    return bool(spec.shape) and isinstance(spec.shape[0], str)


def input_types(ct: Any, program: Program, batches: Batches, images: Mapping[str, str]) -> list[Any]:
    """coremltools' types of the inputs."""
    kinds = {"float32": np.float32, "float16": np.float16}
    layouts = {"rgb": ct.colorlayout.RGB, "bgr": ct.colorlayout.BGR, "gray": ct.colorlayout.GRAYSCALE}
    # One object for all inputs: their batches are the same.
    free = ct.RangeDim(batches.sizes[0], batches.sizes[-1], batches.usual) if batches.ranged else None
    made = []
    for spec in program.tensor_inputs:
        name, shape = identifier(spec.name), _shape(ct, spec, batches, free)
        if spec.name in images:
            made.append(ct.ImageType(name=name, shape=shape, color_layout=layouts[images[spec.name]]))
        else:
            made.append(ct.TensorType(name=name, shape=shape, dtype=kinds.get(spec.dtype, np.int32)))
    return made


def _shape(ct: Any, spec: InputSpec, batches: Batches, free: Any) -> Any:
    if not _leads(spec):
        return list(spec.shape)
    shapes = [[size, *spec.shape[1:]] for size in batches.sizes]
    if free is not None:
        return [free, *spec.shape[1:]]
    return ct.EnumeratedShapes(shapes=shapes, default=shapes[0]) if len(shapes) > 1 else shapes[0]


def labels_of(program: Program, target: Target) -> list[str]:
    """Names of the classes; none where the target says none.

    Raises:
        LegalityError: the model has not one output of as many scores.
    """
    labels = list(json.loads(target.options.get("labels", "[]")))
    if not labels:
        return labels
    shapes = [list(o.shape) for o in program.outputs]
    if len(shapes) != 1 or shapes[0][1:] != [len(labels)]:
        found = " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
        raise LegalityError(
            f"{program.name} gives {found}, and there are {len(labels)} labels",
            why="a classifier has one output with a score for each class",
            fix="one label for each score, or outputs=[…] where the model has several outputs",
        )
    return labels
