"""A second reference, for any graph: every value is run whole, with the removed indices of what an operator reads at zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.program import Program, attribute
from fxc.passes.prune.atoms import Flags
from fxc.passes.prune.flow import Flow


def zeroed_outputs(flow: Flow, keep: Flags, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What the original program answers with zeros for the removed indices at the input of every operator.

    Holds where no statistic is taken over removed indices, and no operator in between makes zeros count: a product whose
    factors both lack the index, a sum, a convolution.
    """
    program: Program = flow.program
    values: dict[fx.Node, Any] = {}
    waiting = iter(inputs)
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "output":
                return tuple(fx.map_arg(node.args[0], values.__getitem__))
            if node.op == "placeholder":
                value: Any = next(waiting)
            elif node.op == "get_attr":
                value = attribute(program.graph_module, str(node.target))
            else:
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
                value = node.target(*args, **kwargs)
            values[node] = _zeroed(value, flow, node, keep)
    raise AssertionError("a graph without output")


def _zeroed(value: Any, flow: Flow, node: fx.Node, keep: Flags) -> Any:
    if not isinstance(value, Tensor) or "running_var" in str(node.target):
        return value
    for axis, label in enumerate(flow.of(node)):
        if label is None or keep[label].all():
            continue
        gone = torch.from_numpy(~keep[label])
        if gone.numel() != value.shape[axis]:  # the batch stands for a prime in a merged dimension
            gone = gone[: value.shape[axis]]
        value = value.detach().clone().index_fill_(axis, gone.nonzero().flatten(), 0)
    return value
