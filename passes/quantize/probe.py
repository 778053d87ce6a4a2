"""One float run over a few samples, and what later passes want to know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.program import Program

_LAYERS = (*CONVOLUTIONS, *LINEAR)


@dataclass(frozen=True)
class Channels:
    """Each channel of one tensor, float64 ``[C]``: extremes, mean, mean of squares."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    square: np.ndarray


@dataclass(frozen=True)
class Probed:
    """What a run showed.

    Attributes:
        program: that ran.
        outputs: its flat outputs on the samples.
        channels: by node name, of what convolutions, linear layers and additions read.
    """

    program: Program
    outputs: tuple[Tensor, ...]
    channels: dict[str, Channels] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, Tensor]:
        """Channel means by node name."""
        return {name: torch.from_numpy(c.mean) for name, c in self.channels.items()}


def probe(program: Program, samples: tuple[Tensor, ...]) -> Probed:
    """Run the float ``program`` once on flat inputs, a few rows each."""
    run = _Probe(program)
    with torch.no_grad():
        outputs = run.run(*samples, enable_io_processing=False)
    return Probed(program, tuple(outputs), run.found)


def channel_axis(node: fx.Node) -> int:
    """Channel axis of the input and output of a convolution or linear layer."""
    if node.target in LINEAR:
        return -1
    weight: Any = node.args[1]
    return 1 - int(node.meta["val"].dim() == weight.meta["val"].dim() - 1)


class _Probe(fx.Interpreter):
    def __init__(self, program: Program):
        super().__init__(program.graph_module)
        self.axes = _axes(program.graph)
        self.found: dict[str, Channels] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        axis = self.axes.get(n)
        if axis is not None and result.dim():
            self.found[n.name] = _channels(result, axis)
        return result


def _axes(graph: fx.Graph) -> dict[fx.Node, int]:
    axes: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _LAYERS:
            axes.setdefault(node.all_input_nodes[0], channel_axis(node))
            axes.setdefault(node, channel_axis(node))
    # A sum's operands have the channels of whichever layer made or reads them; the sum hands them on.
    for node in graph.nodes:
        if node.target is torch.ops.aten.add.Tensor:
            known = next((axes[n] for n in (node, *node.all_input_nodes) if n in axes), None)
            if known is not None:
                for operand in (node, *node.all_input_nodes):
                    if operand.op != "get_attr":
                        axes.setdefault(operand, known)
    kept = {n.all_input_nodes[0] for n in graph.nodes if n.op == "call_function" and n.target in _LAYERS}
    for node in graph.nodes:
        if node.target is torch.ops.aten.add.Tensor:
            kept.update(node.all_input_nodes)
    return {n: axis for n, axis in axes.items() if n in kept}


def _channels(x: Tensor, axis: int) -> Channels:
    others = [d for d in range(x.dim()) if d != axis % x.dim()]
    if not others:
        values = (x, x, x, x.square())
    else:
        values = (x.amin(others), x.amax(others), x.mean(others), x.square().mean(others))
    return Channels(*(v.double().numpy() for v in values))
