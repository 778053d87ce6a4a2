"""What a float program computed on a few samples, kept so that a check against it need not compute it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.macs import macs
from fxc.compiler.program import Program

_LIMIT = 256 << 20
"""Bytes of values that are worth keeping; a network with larger ones is run again."""


@dataclass
class FloatRun:
    """One run of a program.

    Attributes:
        nodes: names of the program's operators, in order.
        inputs: flat.
        values: by node name, of every layer that multiplies, and under ``""`` the flat outputs; empty if they were too large.
    """

    nodes: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    values: dict[str, Any] = field(default_factory=dict)
    _bytes: int = 0

    @classmethod
    def of(cls, program: Program, inputs: tuple[Tensor, ...]) -> FloatRun:
        """A run that has not begun."""
        return cls(_names(program), inputs)

    def see(self, node: fx.Node, value: Any) -> None:
        """Keep the value of ``node`` if it is wanted and there is room."""
        if node.op == "output":
            if self._bytes <= _LIMIT:
                self.values[""] = value
        elif macs(node) > 0:
            self._bytes += value.numel() * value.element_size()
            if self._bytes > _LIMIT:
                self.values.clear()
            else:
                self.values[node.name] = value

    def serves(self, program: Program, inputs: tuple[Tensor, ...]) -> bool:
        """Whether it is complete, and of these inputs through a program with the same nodes (the caller knows the weights)."""
        return (
            "" in self.values
            and len(inputs) == len(self.inputs)
            and all(torch.equal(a, b) for a, b in zip(inputs, self.inputs))
            and _names(program) == self.nodes
        )


def _names(program: Program) -> tuple[str, ...]:
    return tuple(n.name for n in program.graph.nodes if n.op == "call_function")
