"""An input of bytes as Core ML has it: an image, whose numbers from 0 to 255 the program sees as floats."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.program import InputSpec, Program
from fxc.passes.image_input import order_of

aten = torch.ops.aten


def image_inputs(program: Program) -> tuple[Program, dict[str, str]]:
    """The program with floats in the place of bytes, and the order of channels of the input that is an image, by its name.

    Before::

        %x: u8[1, 3, H, W]
        %float = to(%x, float32)
        %centred = sub(%float, constant)

    After::

        %x: f32[1, 3, H, W]
        %centred = sub(%x, constant)
    """
    order = order_of(program)
    if order is None or why_no_image(program) is not None:
        return program, {}
    editor = Editor(program, "coreml_image")
    image = next(n for n in editor.graph.nodes if n.op == "placeholder" and n.meta.get("val") is not None)
    (cast,) = image.users
    image.meta["val"] = cast.meta["val"]
    editor.replace(cast, image)
    inputs = tuple(s if s.is_constant else replace(s, dtype="float32") for s in program.inputs)
    examples = tuple(x.to(torch.float32) for x in program.example_inputs)
    return editor.finish(inputs=inputs, example_inputs=examples), {_only(program).name: order}


def why_no_image(program: Program) -> str | None:
    """Why an input of bytes cannot be an image; ``None`` if it can, or if there is none."""
    bytes_in = [s for s in program.tensor_inputs if s.dtype == "uint8"]
    if not bytes_in:
        return None
    if order_of(program) is None or len(program.tensor_inputs) != 1:
        return "Core ML takes bytes as an image only, and nobody said in which order its channels are"
    image = next(n for n in program.graph.nodes if n.op == "placeholder" and n.meta.get("val") is not None)
    return None if _is_read_as_float(image) else "its bytes are read as they are, not as floats"


def _is_read_as_float(image: fx.Node) -> bool:
    readers = list(image.users)
    return len(readers) == 1 and readers[0].target is aten.to.dtype and readers[0].args[1] == torch.float32


def _only(program: Program) -> InputSpec:
    return program.tensor_inputs[0]
