"""What a float run over a few samples shows of each channel, for the passes that tune quantization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.execute import fast_order, steps
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.program import Program
from fxc.passes.quantize.float_run import FloatRun

_LAYERS = (*CONVOLUTIONS, *LINEAR)
_BLOCK = 1 << 20
"""Values that are squared at a time."""


@dataclass(frozen=True)
class Channels:
    """Each channel of one tensor, float64 ``[C]``: extremes, mean, mean of squares."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    square: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether every channel was; of a network that overflows, calibration will say where."""
        return bool(np.isfinite(self.square).all())


@dataclass(frozen=True)
class Probed:
    """What a run showed.

    Attributes:
        program: that ran.
        channels: by node name, of what convolutions, linear layers and additions read.
        run: what the layers computed, of the program with quantizers attached, if that one ran.
    """

    program: Program
    channels: dict[str, Channels] = field(default_factory=dict)
    run: FloatRun | None = None

    @property
    def means(self) -> dict[str, Tensor]:
        """Channel means by node name."""
        return {name: torch.from_numpy(c.mean) for name, c in self.channels.items()}


def probe(program: Program, samples: tuple[Tensor, ...]) -> Probed:
    """Run the float ``program`` once on flat inputs, a few rows each."""
    axes = probed_axes(program.graph)
    found = {}
    for node, value in steps(program, fast_order(program, samples)):
        if node.name in axes and value.dim():
            found[node.name] = channels_of(value, axes[node.name])
    return Probed(program, found)


def channel_axis(node: fx.Node) -> int:
    """Channel axis of the input and output of a convolution or linear layer."""
    if node.target in LINEAR:
        return -1
    weight: Any = node.args[1]
    return 1 - int(node.meta["val"].dim() == weight.meta["val"].dim() - 1)


def probed_axes(graph: fx.Graph) -> dict[str, int]:
    """What a probe looks at: names of the tensors that layers and additions read, with their channel axes."""
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
    return {n.name: axis for n, axis in axes.items() if n in kept}


def channels_of(x: Tensor, axis: int) -> Channels:
    """Each channel of a float tensor with at least one axis."""
    others = [d for d in range(x.dim()) if d != axis % x.dim()]
    if not others:
        values = (x, x, x, x.square())
    else:
        values = (x.amin(others), x.amax(others), x.mean(others), _mean_square(x, axis, others))
    return Channels(*(v.double().numpy() for v in values))


def _mean_square(x: Tensor, axis: int, others: list[int]) -> Tensor:
    rows = x.movedim(axis, -1)
    if not rows.is_contiguous() or rows.dtype is not torch.float32:
        return x.square().mean(others)
    # Fresh memory for all squares at once would take several times as long as they do.
    rows = rows.reshape(-1, rows.shape[-1])
    blocks = rows.split(max(1, _BLOCK // max(1, rows.shape[1])))
    squares, total = torch.empty_like(blocks[0]), torch.zeros(rows.shape[1], dtype=torch.float64)
    for block in blocks:
        total += torch.mul(block, block, out=squares[: len(block)]).sum(0)
    return total / rows.shape[0]
