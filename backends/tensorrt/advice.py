"""Where int8 does not pay on TensorRT: the layer runs in float, or slower than it could. Nothing here stops a compile.

Sources: TensorRT developer guide, "Layer support: restrictions for int8" (grouped convolutions) and "Optimizing for Tensor
Cores" (channel multiples); NVIDIA ModelOpt's ONNX quantizer, which leaves layers of fewer than 16 channels alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from fxc.compiler.backend import Violation
from fxc.compiler.macs import CONVOLUTIONS, LINEAR, TRANSPOSED, WEIGHTED
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.quant import QuantScheme
from fxc.compiler.target import Target

_GROUP = 4
_TINY = 16
_LEAST_WIDTH = 64
"""Below it a channel multiple of 32 would change too much of a layer to be advice."""


def advice(program: Program, target: Target) -> Iterator[Violation]:
    """Every layer whose int8 kernel is missing or poorly filled, and every float operator between int8 layers."""
    if target.scheme is None:
        return
    first = next((n for n in program.graph.nodes if n.target in WEIGHTED), None)
    for node in program.graph.nodes:
        if node.target in WEIGHTED:
            found = _layer(node, node is first, target.channel_multiple)
        else:
            found = _island(node, target.scheme)
        if found is not None:
            rule, fix = found
            yield Violation(label_of(node), origin_of(node).source, rule, fix, fatal=False)


def _layer(node: fx.Node, first: bool, multiple: int) -> tuple[str, str] | None:
    made, read, groups = _channels(node)
    if groups > 1 and groups == read:
        return (
            "a depthwise convolution is bound by memory: int8 gains little over fp16",
            "compare with keep_float of this layer, or use a full or grouped convolution",
        )
    if groups > 1 and (read // groups % _GROUP or made // groups % _GROUP):
        return (
            f"int8 grouped convolutions need a multiple of {_GROUP} channels in each group; this one has "
            f"{read // groups} in and {made // groups} out, and runs in float",
            "choose a group width that is a multiple of 4",
        )
    if made < _TINY or (read < _TINY and not first):
        return (
            f"{read} channels in and {made} out fill a small part of an int8 kernel",
            f"keep it in float (keep_float), or give it at least {_TINY} channels",
        )
    if made >= _LEAST_WIDTH and made % multiple and node.target not in LINEAR:
        return (
            f"{made} output channels are no multiple of {multiple}: TensorRT pads to {-(-made // multiple) * multiple}",
            f"prune or widen to a multiple of {multiple}",
        )
    return None


def _channels(node: fx.Node) -> tuple[int, int, int]:
    """Output channels, input channels, groups."""
    weight: Any = node.args[1]
    shape = weight.meta["val"].shape
    if node.target in TRANSPOSED:
        groups = int(node.args[6])  # type: ignore[call-overload]
        return int(shape[1]) * groups, int(shape[0]), groups
    groups = int(node.args[6]) if node.target in CONVOLUTIONS else 1  # type: ignore[call-overload]
    return int(shape[0]), int(shape[1]) * groups, groups


def _island(node: fx.Node, scheme: QuantScheme) -> tuple[str, str] | None:
    """A float operator that reads an int8 layer's result and whose own is read by one."""
    if node.op != "call_function" or op_name(node) not in scheme.keep_float:
        return None
    above = any(_layer_above(source) for source in node.all_input_nodes)
    below = any(reader.target in CONVOLUTIONS for reader in node.users)
    if not (above and below):
        return None
    return (
        f"{op_name(node)} runs in float between int8 layers, which costs a conversion on either side",
        "use an operator that TensorRT has in int8, or move it to where the network is small",
    )


def _layer_above(node: fx.Node) -> bool:
    while node.op == "call_function" and node.target not in WEIGHTED and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node.target in CONVOLUTIONS
