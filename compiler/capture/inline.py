"""Regions that export keeps as sub-graphs (``torch.no_grad()``, ``torch.autocast(enabled=False)``) put back in line."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator

from fxc.compiler.capture.names import source_line
from fxc.compiler.errors import CaptureError

_GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
_AUTOCAST = torch.ops.higher_order.wrap_with_autocast


def is_region(node: fx.Node) -> bool:
    """Whether the node calls a sub-graph."""
    return node.op == "call_function" and isinstance(node.target, HigherOrderOperator)


def inline(graph: fx.Graph, node: fx.Node, values: dict[fx.Node, Any], meta: tuple[str, ...]) -> list[Any]:
    """Copy the sub-graph that ``node`` calls to the end of ``graph``; returns its flat results.

    Gradient and disabled autocast regions compute the same numbers in line. ``values`` maps the exporter's nodes to
    copied ones, and is extended.

    Raises:
        CaptureError: any other higher-order operator, or an enabled autocast region.
    """
    body, arguments = _body_of(node, values)
    inputs = iter(arguments)
    for inner in body.graph.nodes:
        if inner.op == "placeholder":
            values[inner] = next(inputs)
        elif inner.op == "output":
            results: Any = fx.map_arg(inner.args[0], lambda n: values[n])
            return list(results) if isinstance(results, (list, tuple)) else [results]
        elif inner.op == "get_attr":
            values[inner] = getattr(body, str(inner.target))
        elif is_region(inner):
            values[inner] = inline(graph, inner, values, meta)
        elif inner.target is operator.getitem and isinstance(values.get(inner.args[0]), list):  # type: ignore[arg-type]
            values[inner] = values[inner.args[0]][inner.args[1]]  # type: ignore[index]
        else:
            copied = graph.node_copy(inner, lambda n: values[n])
            copied.meta = {key: inner.meta[key] for key in meta if key in inner.meta}
            values[inner] = copied
    return []


def _body_of(node: fx.Node, values: dict[fx.Node, Any]) -> tuple[fx.GraphModule, list[Any]]:
    arguments = [values[a] if isinstance(a, fx.Node) else a for a in node.args]
    if node.target is _GRAD:
        return arguments[1], arguments[2:]
    if node.target is _AUTOCAST and arguments[2] is False:
        return arguments[4], arguments[5:]
    name = getattr(node.target, "__name__", str(node.target))
    bodies = [a for a in arguments if isinstance(a, fx.GraphModule)]
    traces = [n.meta.get("stack_trace") for n in (node, *(i for body in bodies for i in body.graph.nodes))]
    place = next((line for line in map(source_line, filter(None, traces)) if line), None)
    if name.startswith("auto_functionalized"):
        raise CaptureError(
            f"the model uses {arguments[0]}, which writes into its arguments",
            where=place,
            why="operators of a program return new tensors",
            fix="register it with mutates_args=() and let it return its result",
        )
    raise CaptureError(
        f"the model uses torch.{name}, which a program cannot hold",
        where=place,
        why="a program is one straight graph of operators"
        if node.target is not _AUTOCAST
        else "operators inside an enabled autocast region change their dtype",
        fix="remove the region, or compute both branches and select with torch.where",
    )
