"""How long a program takes on a device by a model of it, whole or cut. Nothing here is measured.

A layer takes the longer of two times: its multiply-accumulates at the device's peak, with channels filled up to the multiple
that the device works in, and the bytes that it reads and writes at its memory's peak. Views take no time, nor do activations
and norms that are fused into a layer; every other operator takes what its bytes do (Williams, Waterman and Patterson,
"Roofline", 2009).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor, fx

from fxc.compiler.macs import LINEAR, TRANSPOSED, WEIGHTED, macs_of
from fxc.compiler.target import Speed
from fxc.passes.prune import pointwise

aten = torch.ops.aten

Shapes: TypeAlias = Callable[[fx.Node], Sequence[int]]


def seconds_of(node: fx.Node, shape: Shapes, speed: Speed, multiple: int) -> float:
    """What one call takes for a batch of one, for the shapes that ``shape`` gives to values."""
    if node.op != "call_function" or not isinstance(node.meta.get("val"), Tensor) or _is_free(node):
        return 0.0
    numbers = prod(shape(node)) + sum(
        prod(shape(source)) for source in node.all_input_nodes if _is_tensor(source)
    )
    moved = numbers * speed.bytes_each / speed.bandwidth
    count = macs_of(node, shape)
    return max(moved, count * _filling(node, shape, multiple) / speed.macs)


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _is_free(node: fx.Node) -> bool:
    """Views, and what is fused into the layer before it: one value in, one of the same shape out, element by element."""
    returns = node.target._schema.returns if hasattr(node.target, "_schema") else ()
    if any(each.alias_info is not None for each in returns) or not hasattr(node.target, "_schema"):
        return True
    values = [source for source in node.all_input_nodes if source.op != "get_attr" and _is_tensor(source)]
    known = torch.Tag.pointwise in node.target.tags or node.target in pointwise.RULES  # type: ignore[union-attr]
    return len(values) < 2 and (known or node.target == aten.batch_norm.default)


def _filling(node: fx.Node, shape: Shapes, multiple: int) -> float:
    """By how much a layer's work grows when its channels are filled up; those of the model's own input are not."""
    if node.target not in WEIGHTED:
        return 1.0
    source, weight = node.args[:2]
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    first, second = shape(weight)[:2]
    outputs, inputs = (second, first) if node.target in TRANSPOSED else (first, second)
    alone = node.target not in LINEAR and inputs == 1
    return _filled(outputs, multiple) * (
        1.0 if alone or source.op == "placeholder" else _filled(inputs, multiple)
    )


def _filled(width: int, multiple: int) -> float:
    return -(-width // multiple) * multiple / width
