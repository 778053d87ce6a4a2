"""Running a graph node by node, with every value in sight and none kept longer than it is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.program import Program, attribute


def steps(
    program: Program, inputs: tuple[Tensor, ...], calls: Mapping[fx.Node, Callable[..., Any]] | None = None
) -> Iterator[tuple[fx.Node, Any]]:
    """Run ``program`` on flat inputs, without gradients: every node with its value, the output node's tuple last.

    A value is dropped after the last node that reads it, unless the caller keeps it. Nothing runs ahead of the caller:
    two programs can be run in step. A fresh graph needs no code generated for it.

    Args:
        calls: what to call in the place of a node's operator, as :func:`fxc.compiler.prepack.prepacked` gives it.
    """
    instead = calls or {}
    graph_module, waiting = program.graph_module, iter(inputs)
    dead = _last_reads(program.graph)
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        value: Any
        if node.op == "placeholder":
            value = next(waiting)
        elif node.op == "get_attr":
            value = attribute(graph_module, str(node.target))
        elif node.op == "output":
            value = tuple(fx.map_arg(node.args[0], values.__getitem__))
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            # Around the operator only: between two nodes the caller runs, with the mode of its own.
            with torch.no_grad():
                value = instead.get(node, node.target)(*args, **kwargs)  # type: ignore[operator]
            del args, kwargs
        values[node] = value
        for source in dead.get(node, ()):
            del values[source]
        yield node, value


def run_graph(program: Program, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The flat outputs of ``program`` on flat inputs, without checks and gradients."""
    result: tuple[Tensor, ...] = ()
    for _, value in steps(program, inputs):
        result = value
    return result


def fast_order(program: Program, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """``inputs`` in the order of memory in which convolutions are fastest: channels last.

    The order of memory is no business of a model, unless it reads storage: then they stay as they are.
    """
    if any(node.target is torch.ops.aten.as_strided.default for node in program.graph.nodes):
        return inputs
    return tuple(x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)


def _last_reads(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """Which values nobody reads after a node: its last inputs, and its own if nobody reads it at all."""
    seen: set[fx.Node] = set()
    dead: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(graph.nodes):
        for source in node.all_input_nodes:
            if source not in seen:
                seen.add(source)
                dead.setdefault(node, []).append(source)
        if not node.users:
            dead.setdefault(node, []).append(node)
    return dead


def lockstep(
    a: Program, b: Program, names: Collection[str], inputs: tuple[Tensor, ...]
) -> Iterator[tuple[str, Any, Any]]:
    """Run two programs on the same flat inputs: ``(name, value in a, value in b)`` for each named node of ``b``.

    ``a`` runs no further than ``b`` has come: two programs with their nodes in one order hold one pair of values at a
    time. A node that ``a`` lacks has ``None`` there. The last item is ``("", outputs of a, outputs of b)``.
    """
    in_both = {n.name for n in a.graph.nodes}.intersection(names)
    first, ahead = named(a, in_both, inputs), {}
    for name, value in named(b, names, inputs):
        while name not in ahead and (name in in_both or not name):
            other, found = next(first)
            ahead[other] = found
        yield name, ahead.pop(name, None), value


def named(program: Program, names: Collection[str], inputs: tuple[Tensor, ...]) -> Iterator[tuple[str, Any]]:
    """Run ``program`` on flat inputs: ``(name, value)`` for each named node, ``("", outputs)`` last."""
    for node, value in steps(program, inputs):
        if node.op == "output":
            yield "", value
        elif node.name in names:
            yield node.name, value
