"""Atoms: the single indices of dimensions, tied where they can only be removed together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import fx

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Label: TypeAlias = "Ints | None"
"""The atom of every index of a dimension, ``[size]``; ``None`` for one that can never shrink."""
Dims: TypeAlias = "tuple[Label, ...]"
"""The labels of a tensor's dimensions."""


@dataclass(frozen=True)
class Mark:
    """Something said about atoms: why they must stay, or that a statistic is taken over them.

    Attributes:
        atoms: which.
        text: one clause, ``"is the model's output"``.
        node: where in the graph.
    """

    atoms: Ints
    text: str
    node: fx.Node


class Atoms:
    """The atoms of a program and what is known about them.

    Rules only add facts; :meth:`classes` draws the conclusion once, so that the cost stays near linear in the number of
    facts however long the chains are.

    Attributes:
        pins: atoms that must stay.
        statistics: atoms that a mean or a norm's statistic is taken over.
    """

    def __init__(self) -> None:
        self.count = 0
        self.pins: list[Mark] = []
        self.statistics: list[Mark] = []
        self._ties: list[tuple[Ints, Ints]] = []

    def fresh(self, size: int) -> Label:
        """Atoms for a new dimension; one of size 1 has none, for it can never shrink."""
        if size <= 1:
            return None
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def tie(self, a: Label, b: Label, node: fx.Node) -> None:
        """Atoms of ``a`` and ``b`` (broadcast against each other) can only be removed together."""
        if a is not None and b is not None:
            a, b = np.broadcast_arrays(a, b)
            self._ties.append((a.ravel(), b.ravel()))
        else:
            self.pin((a, b), "meets a dimension that cannot shrink", node)

    def tie_all(self, atoms: Ints, node: fx.Node) -> Ints:
        """Tie each row of ``atoms`` ``[n, m]`` into one; the first column, ``[n]``."""
        if atoms.shape[1] > 1:
            self.tie(atoms[:, :1], atoms[:, 1:], node)
        return atoms[:, 0]

    def pin(self, labels: Sequence[Label], text: str, node: fx.Node) -> None:
        """The atoms must stay."""
        self.pins.extend(Mark(label.ravel(), text, node) for label in labels if label is not None)

    def statistic(self, labels: Sequence[Label], text: str, node: fx.Node) -> None:
        """The value of ``node`` depends on how many of the atoms there are."""
        self.statistics.extend(Mark(label.ravel(), text, node) for label in labels if label is not None)

    def classes(self) -> Ints:
        """For each atom the smallest of those that are removed together with it, ``[count]``."""
        parent = np.arange(self.count, dtype=np.int64)
        if not self._ties:
            return parent
        a = np.concatenate([x for x, _ in self._ties])
        b = np.concatenate([y for _, y in self._ties])
        while True:
            roots_a, roots_b = parent[a], parent[b]
            apart = roots_a != roots_b
            if not apart.any():
                return parent
            a, b = roots_a[apart], roots_b[apart]
            np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
            _compress(parent)


def _compress(parent: Ints) -> None:
    """Let every entry point at its root."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return
        parent[:] = above
