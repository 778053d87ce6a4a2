"""Values of a saved program get the names of the layers that they are the results of, where coremltools gave others."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from torch import fx

from fxc.backends.apple.export import weight_name
from fxc.compiler.macs import WEIGHTED
from fxc.compiler.program import Program

_CAST = "_cast_fp16"
_STORED = "_to_fp16"


def restored(program: Program, block: Any) -> dict[str, str]:
    """Names of values to those that they should have.

    The converter appends to a name what it made float16, and names a linear layer anew; its weight tells whose it is.
    """
    taken = {o.name for op in block.operations for o in op.outputs}
    found = {name: name.removesuffix(_CAST) for name in taken if name.endswith(_CAST)}
    layers = _layers_by_weight(program)
    for op in block.operations:
        if "weight" in op.inputs:
            weight = op.inputs["weight"].arguments[0].name
            waiting = layers.get(weight.removesuffix(_STORED).removesuffix(_CAST))
            if waiting:
                found[op.outputs[0].name] = waiting.popleft()
    return {name: plain for name, plain in found.items() if plain not in taken}


def _layers_by_weight(program: Program) -> Mapping[str, deque[str]]:
    found: defaultdict[str, deque[str]] = defaultdict(deque)
    for node in program.graph.nodes:
        if node.target in WEIGHTED and isinstance(node.args[1], fx.Node):
            weight = node.args[1]
            found[weight_name(str(weight.target)) if weight.op == "get_attr" else weight.name].append(
                node.name
            )
    return found


def rename(block: Any, names: Mapping[str, str]) -> None:
    """Give values of a block other names, wherever they are made or read, also in blocks within."""
    for op in block.operations:
        for made in op.outputs:
            made.name = names.get(made.name, made.name)
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "name":
                    binding.name = names.get(binding.name, binding.name)
        for inner in op.blocks:
            rename(inner, names)
    for i, name in enumerate(block.outputs):
        block.outputs[i] = names.get(name, name)


def share_constants(block: Any) -> None:
    """Let operators read one constant where they read equal ones: paddings, strides, scales. A shared one has a name of its own.

    They are most of a small net's specification: its size is what the weights' size is measured against.
    """
    equal: defaultdict[bytes, list[Any]] = defaultdict(list)
    for op in block.operations:
        if op.type == "const" and op.outputs[0].name not in block.outputs:
            equal[_content(op)].append(op)
    taken = {name for op in block.operations for name in (*_read(op), *(o.name for o in op.outputs))}
    free = (name for i in itertools.count() if (name := f"shared_{i}") not in taken)
    shared = [ops for ops in equal.values() if len(ops) > 1]
    names = {op.outputs[0].name: name for ops, name in zip(shared, free) for op in ops}
    gone = {op.outputs[0].name for ops in shared for op in ops[1:]}
    for op in (ops[0] for ops in shared):
        if "name" in op.attributes:
            op.attributes["name"].immediateValue.tensor.strings.values[0] = names[op.outputs[0].name]
    for i in reversed(range(len(block.operations))):
        if block.operations[i].type == "const" and block.operations[i].outputs[0].name in gone:
            del block.operations[i]
    rename(block, names)


def _read(op: Any) -> list[str]:
    """Names of a function's inputs are only seen where they are read."""
    return [
        b.name
        for argument in op.inputs.values()
        for b in argument.arguments
        if b.WhichOneof("binding") == "name"
    ]


def _content(op: Any) -> bytes:
    """Type and value of a constant."""
    made = op.outputs[0].type.SerializeToString(deterministic=True)
    return bytes(made + op.attributes["val"].SerializeToString(deterministic=True))
