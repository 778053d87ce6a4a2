"""Values of a saved program get the names of the layers that they are the results of, where coremltools gave others."""

from __future__ import annotations

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
