"""What a program costs once some of its channels are gone, without making it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor, fx, nn

from fxc.compiler.macs import batch_of_one, macs_of
from fxc.compiler.program import Program
from fxc.compiler.target import Speed
from fxc.passes.prune.atoms import Flags, Ints
from fxc.passes.prune.groups import Structure
from fxc.passes.prune.roofline import seconds_of


@dataclass(frozen=True)
class Device:
    """What an estimate of latency knows of a device.

    Attributes:
        name: of the target.
        speed: what it does at most.
        multiple: channels that it works in at once.
    """

    name: str
    speed: Speed
    multiple: int = 1


def latency_of(program: Program, device: Device) -> float:
    """Seconds that a program takes for a batch of one, by the model in :mod:`fxc.passes.prune.roofline`."""
    return sum(seconds_of(node, _full, device.speed, device.multiple) for node in program.graph.nodes)


class Costs:
    """Multiply-accumulates, parameters and, by a model of a device, the latency of a program, whole or cut.

    Args:
        structure: of the program.
        device: for the latency.
    """

    def __init__(self, structure: Structure, device: Device | None = None):
        self._structure, self._device = structure, device
        self._layers = [n for n in structure.program.graph.nodes if macs_of(n, _full) > 0]
        seen: dict[int, fx.Node] = {}
        for node in structure.program.graph.nodes:
            if node.op == "get_attr":
                seen.setdefault(id(_tensor(structure, node)), node)
        self._tensors = [n for n in seen.values() if isinstance(_tensor(structure, n), nn.Parameter)]

    def macs(self, keep: Flags | None = None) -> int:
        """Multiply-accumulates for a batch of one."""
        return sum(self.layer_macs(keep).values())

    def layer_macs(self, keep: Flags | None = None) -> dict[fx.Node, int]:
        """The same by layer."""
        shape = _full if keep is None else self._shapes(keep)
        return {node: macs_of(node, shape) for node in self._layers}

    def params(self, keep: Flags | None = None) -> int:
        """Numbers in parameters, shared ones once."""
        shape = _full if keep is None else self._shapes(keep)
        return sum(prod(shape(node)) for node in self._tensors)

    def latency(self, keep: Flags | None = None) -> float:
        """Seconds for a batch of one, by the model in :mod:`fxc.passes.prune.roofline`."""
        assert self._device is not None
        shape = _full if keep is None else self._shapes(keep)
        speed, multiple = self._device.speed, self._device.multiple
        return sum(seconds_of(node, shape, speed, multiple) for node in self._structure.program.graph.nodes)

    def _shapes(self, keep: Flags) -> Callable[[fx.Node], Sequence[int]]:
        """Shapes after the cut; each label is counted once."""
        counts: dict[int, int] = {}
        dims = self._structure.flow.dims

        def shape(node: fx.Node) -> list[int]:
            return [
                size if label is None else count(label) * size // len(label)
                for size, label in zip(_full(node), dims[node])
            ]

        def count(label: Ints) -> int:
            if id(label) not in counts:
                counts[id(label)] = int(np.count_nonzero(keep[label]))
            return counts[id(label)]

        return shape


def _tensor(structure: Structure, node: fx.Node) -> Tensor:
    return structure.program.tensor(str(node.target))


def _full(node: fx.Node) -> list[int]:
    return [batch_of_one(size) for size in node.meta["val"].shape]
