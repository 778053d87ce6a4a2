"""What float rounding leaves open: the codes and outputs that another right order of rounding may give.

A tie is a tie only where the float value lies within the float error of a rounding border. That error is measured: the graph
runs again on its own codes, every result that is rounded at all moved by a few roundings, and twice what the moves do to
a value is what another runtime may differ by. A ``ceil`` or a comparison near its edge, and the mean of what was normalized
to a mean of zero, show in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, QUANTIZE_TENSOR

aten = torch.ops.aten

ROUNDINGS = 8 * 2.0**-24
"""Of a tensor's largest value: how far two right float32 results of one operator may lie apart."""
PAIRS = 4
_UNROUNDED = frozenset(
    {
        *DEQUANTIZE,
        aten.abs.default, aten.cat.default, aten.ceil.default, aten.clamp.default, aten.expand.default, aten.flip.default,
        aten.floor.default, aten.hardtanh.default, aten.max_pool2d.default, aten.maximum.default, aten.minimum.default,
        aten.neg.default, aten.pad.default, aten.permute.default, aten.relu.default, aten.reshape.default, aten.round.default,
        aten.select.int, aten.sign.default, aten.slice.Tensor, aten.squeeze.dims, aten.trunc.default,
        aten.unsqueeze.default, aten.where.self,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Open:
    """What is open on one input.

    Attributes:
        codes: name of a quantize node to the lowest and highest code, of every element.
        outputs: how far every element of an output may lie from the graph's; infinite for an integer that changes.
    """

    codes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    outputs: Sequence[np.ndarray]


def left_open(program: Program, rows: tuple[Tensor, ...], codes: Mapping[str, Tensor]) -> Open:
    """What the graph's own rounding leaves open.

    Args:
        rows: flat inputs of the quantized program.
        codes: name of every quantize node to the codes that it gives on them.
    """
    still = _Moved(program, codes, None)
    outputs = still.run_flat(rows)
    errors = {name: torch.zeros_like(x) for name, x in still.before.items()}
    moves = [torch.zeros(x.shape, dtype=torch.float64) for x in outputs]
    for seed in range(PAIRS):
        for sign in (1.0, -1.0):
            moved = _Moved(program, codes, (seed, sign))
            found = moved.run_flat(rows)
            errors = {
                n: torch.maximum(e, (moved.before[n] - still.before[n]).abs()) for n, e in errors.items()
            }
            moves = [torch.maximum(m, _change(a, b)) for m, a, b in zip(moves, outputs, found)]
    limits = {n: _limits(still.quantizers[n], still.before[n], 2 * e) for n, e in errors.items()}
    return Open(limits, [2 * m.numpy() for m in moves])


def _change(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point():
        return (a.double() - b.double()).abs()
    return torch.where(a == b, 0.0, torch.inf).double()


def _limits(node: fx.Node, x: Tensor, error: Tensor) -> tuple[np.ndarray, np.ndarray]:
    arguments: Any = node.args[1:]
    low, high = (QUANTIZE_TENSOR(value, *arguments) for value in (x - error, x + error))
    return low.numpy(), high.numpy()


class _Moved(fx.Interpreter):
    """Runs a quantized graph on given codes, its results moved by a few roundings.

    A normalization's error is the same for all its elements: half of a move is.
    """

    def __init__(self, program: Program, codes: Mapping[str, Tensor], move: tuple[int, float] | None):
        super().__init__(program.graph_module)
        self.codes, self.sign = codes, move[1] if move else 0.0
        self.generator = torch.Generator().manual_seed(move[0] if move else 0)
        self.before: dict[str, Tensor] = {}
        self.quantizers: dict[str, fx.Node] = {}

    def run_flat(self, rows: tuple[Tensor, ...]) -> Sequence[Tensor]:
        with torch.no_grad():
            return tuple(self.run(*rows, enable_io_processing=False))

    def run_node(self, n: fx.Node) -> Any:
        if n.target is QUANTIZE_TENSOR:
            self.before[n.name], self.quantizers[n.name] = self.env[n.args[0]], n  # type: ignore[index]
            return self.codes[n.name]
        found = super().run_node(n)
        if n.op != "call_function" or n.target in _UNROUNDED:
            return found
        return (
            type(found)(map(self._moved, found)) if isinstance(found, (list, tuple)) else self._moved(found)
        )

    def _moved(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.numel():
            return x
        alone = 2 * torch.rand(x.shape, generator=self.generator) - 1
        together = 2 * torch.rand((), generator=self.generator) - 1
        return x + self.sign * ROUNDINGS * x.abs().max() * (alone + together) / 2
