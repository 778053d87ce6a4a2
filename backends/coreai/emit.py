"""A program as an ``.aimodel``, written by Apple's coreai-torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fxc.backends.apple.export import batch_of
from fxc.backends.coreai.ask import ask
from fxc.backends.coreai.package import HASH, METADATA, PROGRAM, SUFFIX, check_package
from fxc.backends.coreai.toolchain import CORE, TORCH, require
from fxc.compiler.backend import Emitted
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.files import read_json, write_json
from fxc.compiler.origin import identifier, label_of
from fxc.compiler.program import Program
from fxc.compiler.scratch import WorkFolder
from fxc.compiler.serialize import write_program
from fxc.compiler.target import Target

MODEL = f"model{SUFFIX}"
_FIXED = "the batch is {} in the file: the Neural Engine wants fixed shapes"
_FALLS_BACK = "float32 is not computed by the Neural Engine"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.aimodel``; a dynamic batch is 1 in it.

    Inputs and outputs have the model's names and dtypes (integers of 64 bits become 32).

    Args:
        lowerings: not used: the converter's own are.

    Raises:
        LegalityError: the converter has no form for an operator.
        ToolchainError: Apple's packages are missing or of another version, or fail.
    """
    tools, batch = require(CORE, TORCH), batch_of(program)
    inputs = [identifier(spec.name) for spec in program.tensor_inputs]
    outputs = [identifier(spec.name) for spec in program.outputs]
    with WorkFolder("coreai") as folder:
        work = Path(folder)
        (work / "program").mkdir()
        write_program(program, work / "program")
        request: dict[str, Any] = {"program": "program", "output": MODEL, "batch": batch}
        request |= {"inputs": inputs, "outputs": outputs, "half": target.options["floats"] == "float16"}
        facts = ask("convert", work, request, about=program.name)
        check_package(work / MODEL)
        # The writer leaves the keys in another order each time.
        write_json(work / MODEL / METADATA, read_json(work / MODEL / METADATA))
        shutil.copytree(work / MODEL, directory / MODEL)
    return Emitted(
        model=MODEL,
        files=tuple(f"{MODEL}/{name}" for name in (HASH, PROGRAM, METADATA)),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        tools=tools,
        tensors=_tensors(program, facts),
        notes=(
            *((_FIXED.format(batch),) if program.dynamic else ()),
            *((_FALLS_BACK,) if target.options["floats"] == "float32" else ()),
            *_placement(program, target, facts),
        ),
        # Large constants are called by a hash that the writer seeds anew in every process.
        varies=(f"{MODEL}/{PROGRAM}", f"{MODEL}/{HASH}"),
    )


def _tensors(program: Program, facts: Mapping[str, Any]) -> dict[str, str]:
    """Labels of layers that multiply, to the names that they have in the file."""
    names = {product["name"] for product in facts["products"]}
    nodes = (n for n in program.graph.nodes if n.op == "call_function")
    return {label_of(n): n.name for n in nodes if n.name in names}


def _placement(program: Program, target: Target, facts: Mapping[str, Any]) -> Iterator[str]:
    """What of the quantized graph survived coreai-torch's passes, read off the saved program."""
    if not target.quantized:
        return
    products = facts["products"]
    labels = {name: label for label, name in _tensors(program, facts).items()}
    yield f"{sum(not p['why'] for p in products)} of {len(products)} products stand between dequantize and quantize"
    for product in products:
        if product["why"]:
            yield f"{labels.get(product['name'], product['name'])} ({product['op']}) does not: {product['why']}"
