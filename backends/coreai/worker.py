"""Everything that touches Core AI, as a program of its own: ``worker.py REQUEST ANSWER``, by the Python that fxc runs in.

Apple's packages bring a compiler and a Swift runtime into the process, and a damaged model aborts it: so they are imported
here only. Files that a request names lie in the current folder; arrays are ``.npy``. Actions:

``convert``: a program of fxc becomes an ``.aimodel``.

    program           folder of a saved program
    output            name of the folder to write
    batch             size of a dynamic batch
    half              whether float32 becomes float16
    inputs, outputs   names, in order

    → what ``describe`` answers

``describe``: → ``{"inputs": [[name, dtype, shape], …], "outputs": the same, "products": [{"name", "op", "why"}, …]}``: every
operator that multiplies, and why it does not stand between dequantize and quantize.

    model             the folder to read

``run``: the same, and what the model answers. A batch is run sample by sample where the model takes one at a time.

    model             the folder to read
    inputs            a file for each input, in the model's order

    → also ``{"answers": [name.npy, …]}``, a file for each output
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PRODUCTS = ("conv1d", "conv2d", "conv3d", "matmul", "batch_matmul", "scaled_dot_product_attention")
"""Operators that multiply and add, by the end of their names."""
_ALONG = ("pad", "reshape", "transpose", "expand_dims", "shrink_dims", "cast", "broadcast_to")
"""What may stand between a dequantizer and the operator that it serves."""
_BEHIND = (
    *("add", "relu", "clamp", "leaky_relu", "elu", "gelu", "sigmoid", "silu", "tanh", "invoke"),
    *("maximum", "minimum", *_ALONG),
)
"""Bias, activation and moves, which may stand between an operator and its quantizer."""
DTYPES = {
    "f16": "float16",
    "f32": "float32",
    "i1": "bool",
    "si8": "int8",
    "ui8": "uint8",
    "si16": "int16",
    "ui16": "uint16",
    "si32": "int32",
    "ui32": "uint32",
}
"""Element types of Core AI's programs, as numpy calls them."""


class Unfit(Exception):
    """Inputs that the model does not take."""


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Write an ``.aimodel``; see the top of the file."""
    from fxc.compiler.serialize import load_program

    program = load_program(Path(request["program"]))
    names = request["inputs"], request["outputs"]
    return write(program, Path(request["output"]), names, batch=request["batch"], half=request["half"])


def write(
    program: Any, path: Path, names: tuple[list[str], list[str]], *, batch: int, half: bool
) -> dict[str, Any]:
    """Write a program of fxc as an ``.aimodel``, in this process; what :func:`describe` says of it."""
    import coreai_torch
    import torch
    from coreai_torch._compression import custom_layers  # noqa: F401  it registers coreai::quantize

    from fxc.backends.apple.export import Style, exported
    from fxc.backends.coreai.spelling import spellings, table

    own = torch.ops.coreai
    floats = torch.float16 if half else torch.float32
    written = spellings(own.quantize.default, own.dequantize.default, floats)
    style = Style("Core AI", written, table(coreai_torch.get_decomp_table()), half)
    source = exported(program, style, batch=batch)
    made = (
        # The mode keeps the names of our nodes, which are the layers'.
        coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.DEBUG)
        .add_exported_program(source, input_names=names[0], output_names=names[1])
        .to_coreai()
    )
    _settle(made._module._mlir_module)
    asset = made.save_asset(path)
    asset.update_metadata(_undated)
    # Read back from disk.
    return describe({"model": str(path)})


def _undated(metadata: Any) -> None:
    """The same model is the same bytes on another day."""
    metadata.creation_date = 0.0


def _settle(module: Any) -> None:
    """Functions inside the model are called by number, where the converter draws letters by chance."""
    from coreai._compiler.ir import Attribute, StringAttr

    names: dict[str, str] = {}
    with module.context:
        for op in module.body.operations:
            name = op.attributes["sym_name"].value if "sym_name" in op.attributes else ""
            if found := re.fullmatch(r"(\w+)_[a-z]{8}", name):
                names[name] = f"{found[1]}_{len(names)}"
                op.attributes["sym_name"] = StringAttr.get(names[name])
        for op in _operations(module):
            if op.name == "coreai.invoke":
                callee = re.search(r"@(\w+)", str(op.attributes["callee"]))
                if callee and callee[1] in names:
                    called = f"#param.constant<@{names[callee[1]]}> : !param.symbol"
                    op.attributes["callee"] = Attribute.parse(called)


def _operations(module: Any) -> Iterator[Any]:
    for graph in module.body.operations:
        for region in graph.regions:
            for block in region.blocks:
                yield from block.operations


def describe(request: dict[str, Any]) -> dict[str, Any]:
    """What a model takes, gives and multiplies; see the top of the file."""
    return _described(_asset(request))


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Execute a model in Apple's runtime; see the top of the file."""
    import numpy as np

    given = [np.load(name, allow_pickle=False) for name in request["inputs"]]
    facts, answers = execute(Path(request["model"]), given)
    files = [f"answer_{i}.npy" for i in range(len(answers))]
    for name, answer in zip(files, answers):
        np.save(name, answer, allow_pickle=False)
    return {**facts, "answers": files}


def execute(path: Path, given: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    """Run an ``.aimodel`` on arrays, in this process; what :func:`describe` says of it, and the outputs."""
    import numpy as np

    asset = _asset({"model": str(path)})
    facts = _described(asset)
    if len(given) != len(facts["inputs"]):
        raise Unfit(f"the model takes {len(facts['inputs'])} inputs, got {len(given)}")
    samples = [_fitting(sample, facts["inputs"]) for sample in _samples(given, facts["inputs"])]
    answers = asyncio.run(_answers(asset, samples, [name for name, _, _ in facts["outputs"]]))
    if len(answers) == 1:
        return facts, answers[0]
    if any(y.ndim == 0 for y in answers[0]):
        raise Unfit("an output has no batch to be put together of; give one sample at a time")
    return facts, [np.concatenate(parts) for parts in zip(*answers)]


def _samples(given: list[Any], inputs: list[Any]) -> list[list[Any]]:
    single = [bool(shape) and shape[0] == 1 for _, _, shape in inputs]
    count = max((len(x) for x, one in zip(given, single) if one and x.ndim), default=1)
    if count <= 1:
        return [given]
    return [
        [x[i : i + 1] if one and x.ndim and len(x) == count else x for x, one in zip(given, single)]
        for i in range(count)
    ]


def _fitting(sample: list[Any], inputs: list[Any]) -> dict[str, Any]:
    """The arrays of a sample by name, in the model's dtypes."""
    import numpy as np

    fitted = {}
    for value, (name, dtype, shape) in zip(sample, inputs):
        if list(value.shape) != shape:
            raise Unfit(f"input {name} has shape {list(value.shape)}, expected {shape}")
        wanted = DTYPES.get(dtype)
        if wanted is None or (value.dtype.kind == "f") is not dtype.startswith("f"):
            raise Unfit(f"input {name} has dtype {value.dtype}, expected {dtype}")
        fitted[name] = np.ascontiguousarray(value.astype(wanted, copy=False))
    return fitted


def _asset(request: dict[str, Any]) -> Any:
    from coreai.authoring import AIModelAsset

    return AIModelAsset.load(Path(request["model"]))


async def _answers(asset: Any, samples: list[dict[str, Any]], outputs: list[str]) -> list[list[Any]]:
    import numpy as np
    from coreai.runtime import NDArray

    answers = []
    async with asset.executable() as model:
        function = model.load_function("main")
        for sample in samples:
            found = await function({name: NDArray(array) for name, array in sample.items()})
            # Copies: the runtime hands out views of its own buffers.
            answers.append([np.array(found[name].numpy()) for name in outputs])
    return answers


def _described(asset: Any) -> dict[str, Any]:
    module = asset.program._module._mlir_module
    for op in module.body.operations:
        if "sym_name" in op.attributes and op.attributes["sym_name"].value == "main":
            return {
                "inputs": _values(op, "arg_attrs", "inputs"),
                "outputs": _values(op, "res_attrs", "results"),
                "products": [
                    {"name": _name(each), "op": _kind(each), "why": _reason(each)}
                    for each in op.regions[0].blocks[0].operations
                    if _kind(each) in PRODUCTS
                ],
            }
    raise ValueError("the model has no function main")


def _values(graph: Any, attributes: str, side: str) -> list[list[Any]]:
    """Name, dtype and shape of each input or output."""
    types = getattr(graph.attributes["function_type"].value, side)
    rows = []
    for about, kind in zip(graph.attributes[attributes], types, strict=True):
        rows.append([about["coreai.name"].value, str(kind.element_type), list(kind.shape)])
    return rows


def _kind(op: Any) -> str:
    """``coreai.decomposable.broadcasting_batch_matmul`` is a ``batch_matmul``."""
    return str(op.name).rsplit(".", 1)[-1].removeprefix("broadcasting_")


def _name(op: Any) -> str:
    """The name that our node had, without the suffix of what it was taken apart into."""
    found = re.search(r'identifiers = \["([^"]+)"\]', str(op.location))
    return re.sub(r"_(op|part)\d+$", "", found[1]) if found else "unnamed"


def _reason(op: Any) -> str:
    """Why an operator does not stand between dequantize and quantize; empty if it does."""
    if _kind(op) == "scaled_dot_product_attention":
        return "attention is computed in float"
    for value in list(op.operands)[:2]:
        maker = _maker(value)
        if maker != "dequantize":
            return f"its input comes from {maker}"
    return _ends(op)


def _maker(value: Any) -> str:
    """The operator that a value comes from, moves left out."""
    owner = value.owner
    while getattr(owner, "name", None) is not None and _kind(owner) in _ALONG:
        owner = owner.operands[0].owner
    return _kind(owner) if getattr(owner, "name", None) is not None else "the model's input"


def _ends(op: Any) -> str:
    readers = [use.owner for result in op.results for use in result.uses]
    kinds = sorted({_kind(reader) for reader in readers})
    if kinds == ["quantize"]:
        return ""
    if "output" in kinds:
        return "its result is the model's output"
    if all(kind in _BEHIND or kind == "quantize" or kind == "mul" for kind in kinds):
        return next((why for reader in readers if _kind(reader) != "quantize" and (why := _ends(reader))), "")
    return f"its result is read by {', '.join(kinds)}"


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    from fxc.compiler.errors import FxcError, InputError

    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "convert": convert,
        "describe": describe,
        "run": run,
    }
    try:
        return actions[request["action"]](request)
    except FxcError as error:
        return {"error": error.to_json()}
    except Unfit as error:
        return {"error": InputError(str(error)).to_json()}
    # Apple's packages raise what they like and leave by exit() too; all of it is an answer.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        return {"error": {"error": type(error).__name__, "what": "", "why": lines[0][:500]}}


def main() -> None:
    """Read the request, write the answer in one step, and leave without the runtime's own clean-up."""
    warnings.simplefilter("ignore")
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = _answer(request)
    temporary = Path(f"{sys.argv[2]}.new")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.replace(sys.argv[2])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
