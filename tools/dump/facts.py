"""What a dump says about a graph, as plain values: one ``Operator`` per drawn node, parameters inside their reader."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.origin import op_name, origin_of
from fxc.compiler.program import Program, attribute
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_TENSOR
from fxc.compiler.text import dtype_name

_SYMBOL = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Parameter:
    """A tensor of the model that an operator reads.

    Attributes:
        argument: the operator's own name for it, ``"weight"``.
        path: dotted path in the model.
        shape: ``"64×3×7×7"``; empty for a scalar.
        dtype: ``"float32"``.
        code: ``"per channel"`` or ``"per tensor"`` when the operator reads it through a dequantize.
        literals: that dequantize's literal arguments, for comparison.
        tensor: the tensor itself, to tell new values under an old name; no part of equality.
    """

    argument: str
    path: str
    shape: str
    dtype: str
    code: str = ""
    literals: str = ""
    tensor: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Operator:
    """One drawn node: an input, an operator or the output.

    Attributes:
        name: the graph's own name for the node.
        op: short operator name; ``"input"`` and ``"output"`` for the ends.
        target: the full target, ``"aten.conv2d.default"``.
        inputs: names of the drawn nodes it reads, one entry per use.
        parameters: tensors of the model it reads.
        options: literal arguments that differ from the operator's defaults, as (name, text).
        literals: every literal argument in place, for comparison.
        shape, dtype: of the result; of the first one when there are several.
        results: how many tensors the node returns.
        label, layers, source, made_by: the node's origin.
    """

    name: str
    op: str
    target: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    options: tuple[tuple[str, str], ...]
    literals: str
    shape: str
    dtype: str
    results: int
    label: str
    layers: tuple[str, ...]
    source: str | None
    made_by: str | None


def operators(program: Program) -> dict[str, Operator]:
    """Every drawn node of a program by name, in graph order.

    ``get_attr`` nodes are not drawn, nor is a dequantize that reads nothing else: both appear as a parameter of the
    operator that reads them.
    """
    stored = _stored(program.graph_module)
    sizes = _size_names(program)
    return {n.name: _operator(n, stored, sizes) for n in program.graph.nodes if n not in stored}


def _size_names(program: Program) -> dict[str, str]:
    """The input specs' names of dynamic sizes by their symbols: ``s77`` is ``batch``."""
    holders = [n for n in program.graph.nodes if n.op == "placeholder"]
    return {
        str(size): name
        for holder, spec in zip(holders, program.tensor_inputs)
        if isinstance(holder.meta.get("val"), Tensor)
        for size, name in zip(holder.meta["val"].shape, spec.shape)
        if isinstance(name, str) and str(size).isidentifier()
    }


def _stored(graph_module: fx.GraphModule) -> dict[fx.Node, Parameter]:
    """The parameter that each undrawn node stands for; ``argument`` is filled in by the reader."""
    stored: dict[fx.Node, Parameter] = {}
    for node in graph_module.graph.nodes:
        if node.op == "get_attr":
            stored[node] = _parameter(graph_module, str(node.target))
        elif node.target in DEQUANTIZE and all(n in stored for n in node.all_input_nodes):
            code = "per tensor" if node.target is DEQUANTIZE_TENSOR else "per channel"
            tensor = stored[node.all_input_nodes[0]]
            stored[node] = replace(tensor, code=code, literals=_literals(node))
    return stored


def _parameter(graph_module: fx.GraphModule, path: str) -> Parameter:
    value = attribute(graph_module, path)
    if not isinstance(value, Tensor):
        return Parameter("", path, type(value).__name__, "")
    return Parameter("", path, shape_text(value.shape), dtype_name(value.dtype), tensor=value)


def _operator(node: fx.Node, stored: Mapping[fx.Node, Parameter], sizes: Mapping[str, str]) -> Operator:
    origin = origin_of(node)
    shape, dtype, results = _value(node, sizes)
    return Operator(
        name=node.name,
        op={"placeholder": "input", "output": "output"}.get(node.op) or op_name(node),
        target=str(node.target),
        inputs=tuple(n.name for n in _nodes((node.args, node.kwargs)) if n not in stored),
        parameters=tuple(_parameters(node, stored)),
        options=tuple(_options(node)),
        literals=_literals(node),
        shape=shape,
        dtype=dtype,
        results=results,
        label=origin.label,
        layers=origin.layers,
        source=origin.source,
        made_by=origin.made_by,
    )


def _value(node: fx.Node, sizes: Mapping[str, str]) -> tuple[str, str, int]:
    val = node.meta.get("val")
    if node.op == "output":
        return "", "", 0
    tensors = [v for v in (val if isinstance(val, (list, tuple)) else [val]) if isinstance(v, Tensor)]
    if not tensors:
        return ("" if val is None else str(val)), "", 1
    return shape_text(tensors[0].shape, sizes), dtype_name(tensors[0].dtype), len(tensors)


def shape_text(shape: Any, sizes: Mapping[str, str] | None = None) -> str:
    """``"64×3×7×7"``; symbolic sizes by their names where ``sizes`` has them."""
    names = sizes or {}
    return "×".join(_SYMBOL.sub(lambda match: names.get(match[0], match[0]), str(size)) for size in shape)


def _nodes(value: Any) -> Iterator[fx.Node]:
    """Nodes in an argument structure, with repetitions, in order."""
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _nodes(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _nodes(item)


def _arguments(node: fx.Node) -> Iterator[tuple[str, Any, Any]]:
    """(name, value, default) of each argument; ``...`` where there is no default."""
    schema = getattr(node.target, "_schema", None)
    formal = list(schema.arguments) if schema is not None else []
    for i, value in enumerate(node.args):
        known = formal[i] if i < len(formal) else None
        yield _formal(known, str(i)) + (value,)
    by_name = {a.name: a for a in formal}
    for name, value in node.kwargs.items():
        yield _formal(by_name.get(name), name) + (value,)


def _formal(argument: Any, fallback: str) -> tuple[str, Any]:
    if argument is None:
        return fallback, ...
    return argument.name, argument.default_value if argument.has_default_value() else ...


def _parameters(node: fx.Node, stored: Mapping[fx.Node, Parameter]) -> Iterator[Parameter]:
    if node.op != "call_function":
        return
    for name, _, value in _arguments(node):
        for reads in _nodes(value):
            if reads in stored:
                yield replace(stored[reads], argument=name)


def _options(node: fx.Node) -> Iterator[tuple[str, str]]:
    if node.op != "call_function":
        return
    for name, default, value in _arguments(node):
        if next(_nodes(value), None) is None and not _same(value, default):
            yield "index" if node.target is operator.getitem else name, _short(value)


def _same(value: Any, default: Any) -> bool:
    """Whether a literal equals its default; a schema spells ``stride=2`` for ``[2, 2]`` as one number."""
    if isinstance(value, (list, tuple)) and isinstance(default, (int, float)):
        return all(v == default for v in value)
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return list(value) == list(default)
    return type(value) is type(default) and value == default


def _short(value: Any) -> str:
    """A literal for a reader: ``[2, 2]`` is ``2``, a scale has six digits."""
    if isinstance(value, (list, tuple)):
        items = [_short(v) for v in value]
        return items[0] if len(set(items)) == 1 and len(items) > 1 else f"[{', '.join(items)}]"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return dtype_name(value) if isinstance(value, torch.dtype) else str(value)


def _literals(node: fx.Node) -> str:
    """The argument structure with every node as a blank: equal text means equal literals."""
    return repr(fx.map_arg((node.args, node.kwargs), lambda _: None)) if node.op == "call_function" else ""
