"""Where two quantizers put their pairs, compared place by place, and why: nvidia-modelopt's and fxc's.

A place is an input of a node that comes out of a dequantizer; nodes go by name, for both files are made from one. As a program it
prints the table of ``backends/tensorrt/README.md``: ``python -m tests.backends.tensorrt.modelopt_places NAME=OURS,THEIRS ...``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx

_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
_THROUGH = _PAIR | {"Cast", "Identity", "Reshape", "Transpose"}
_MOVES = frozenset({"Reshape", "Slice", "Transpose", "Squeeze", "Flatten", "Split"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool"})


@dataclass(frozen=True)
class Place:
    """An input of a node: the node's name and operator, and which input."""

    node: str
    op: str
    slot: int


class File:
    """A quantized file.

    Attributes:
        activations: places that read coded activations.
        weights: places that read coded weights.
        pairs: quantizers of activations.
    """

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path).graph
        self._shapes = {w.name: tuple(w.dims) for w in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self.outputs = {output.name for output in graph.output}
        self.nodes = {node.name: node for node in graph.node}
        places = [
            (Place(node.name, node.op_type, slot), name)
            for node in graph.node
            for slot, name in enumerate(node.input)
            # The shape of a tensor is the same with and without codes.
            if node.op_type not in (*_PAIR, "Shape") and self._maker(name) == "DequantizeLinear"
        ]
        self.weights = {place for place, name in places if self._constant(name)}
        self.activations = {place for place, name in places} - self.weights
        self.pairs = sum(n.op_type == "QuantizeLinear" and not self._constant(n.input[0]) for n in graph.node)

    def source(self, place: Place) -> str:
        """The operator that a place's value comes from, pairs looked through; ``""`` for an input of the model."""
        name = self.nodes[place.node].input[place.slot]
        while self._maker(name) in _PAIR:
            name = self._makers[name].input[0]
        return self._maker(name)

    def shape(self, place: Place) -> tuple[int, ...]:
        """The shape of the weight of a place's node, ``()`` if its second operand is none."""
        name = self.nodes[place.node].input[1]
        while name in self._makers and self._makers[name].op_type in _THROUGH:
            name = self._makers[name].input[0]
        return self._shapes.get(name, ())

    def ends(self, place: Place) -> bool:
        """Whether a place's node writes an output of the model."""
        return bool(self.outputs & set(self.nodes[place.node].output))

    def groups(self, place: Place) -> int:
        """Of a convolution."""
        return next((int(a.i) for a in self.nodes[place.node].attribute if a.name == "group"), 1)

    def _maker(self, name: str) -> str:
        return str(self._makers[name].op_type) if name in self._makers else ""

    def _constant(self, name: str) -> bool:
        if name in self._shapes:
            return True
        node = self._makers.get(name)
        return node is not None and (
            node.op_type == "Constant" or (node.op_type in _THROUGH and self._constant(node.input[0]))
        )


@dataclass(frozen=True)
class Difference:
    """A place that one file codes and the other does not."""

    place: Place
    here: File
    there: File

    @property
    def source(self) -> str:
        """The operator that the value comes from."""
        return self.here.source(self.place)

    def other_operand(self) -> bool:
        """Whether the other file codes the other operand of the same node."""
        return Place(self.place.node, self.place.op, 1 - self.place.slot) in self.there.activations


Test = Callable[[Difference], bool]
OURS: dict[str, Test] = {
    "a classifier": lambda d: d.place.op == "Gemm" and d.here.ends(d.place),
    "an operand of a concat": lambda d: d.place.op == "Concat",
    "the result of a concat": lambda d: d.place.op in _MOVES and d.source == "Concat",
    "the other branch of a residual sum": lambda d: d.place.op == "Add" and d.other_operand(),
    "a grouped or depthwise convolution": lambda d: d.place.op == "Conv" and d.here.groups(d.place) > 1 and _narrow(d),
}  # fmt: skip
"""Kinds of places that only we code."""

THEIRS: dict[str, Test] = {
    "in front of max pooling": lambda d: d.place.op == "MaxPool",
    "in front of average pooling": lambda d: d.place.op in _POOLS,
    "an operand of a product": lambda d: d.place.op == "Mul",
    "the other branch of a residual sum": lambda d: d.place.op == "Add" and d.other_operand(),
    "a transformer's residual sum": lambda d: (
        d.place.op == "Add" and d.source in ("Add", "Transpose", "MatMul")
    ),
    "the input of a normalization": lambda d: d.place.op == "LayerNormalization",
    "an operand of attention": lambda d: d.place.op == "MatMul" and len(d.here.shape(d.place)) != 2,
}
"""Kinds of places that only nvidia-modelopt codes."""


def _narrow(d: Difference) -> bool:
    """What nvidia-modelopt leaves out: fewer than 16 channels in a group, and outputs that are no multiple of 8."""
    made, read = d.here.shape(d.place)[:2]
    return read < 16 and made % 8 != 0


def kinds(here: File, there: File, tests: dict[str, Test]) -> tuple[Counter[str], list[Place]]:
    """Places that only ``here`` codes, counted by kind, and those of none."""
    found, bare = Counter[str](), []
    for place in sorted(here.activations - there.activations, key=lambda p: (p.op, p.node, p.slot)):
        difference = Difference(place, here, there)
        kind = next((name for name, test in tests.items() if test(difference)), None)
        if kind is None:
            bare.append(place)
        else:
            found[kind] += 1
    return found, bare


def unexplained(ours: File, theirs: File) -> list[Place]:
    """Every place where the two differ for no reason in the tables."""
    return [*kinds(ours, theirs, OURS)[1], *kinds(theirs, ours, THEIRS)[1]]


def row(name: str, ours: File, theirs: File) -> str:
    """One model's line of the table."""
    both = Counter(place.op for place in ours.activations & theirs.activations)
    cells = [name, f"{ours.pairs} / {theirs.pairs}", _told(both)]
    for here, there, tests in ((ours, theirs, OURS), (theirs, ours, THEIRS)):
        found, bare = kinds(here, there, tests)
        cells.append(_told(found + Counter({f"UNEXPLAINED {p.op} of {p.node}": 1 for p in bare})))
    return f"| {' | '.join(cells)} |"


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "–"


def main(arguments: list[str]) -> None:
    """Print the table."""
    print("| model | pairs ours / theirs | places in both | only ours | only theirs |\n|---|---|---|---|---|")
    for text in arguments:
        name, _, files = text.partition("=")
        ours, _, theirs = files.partition(",")
        print(row(name, File(Path(ours)), File(Path(theirs))))


if __name__ == "__main__":
    main(sys.argv[1:])
