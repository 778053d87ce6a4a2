"""Disjoint sets of channel lanes, kept in arrays: thousands of channels are tied in one call."""

from __future__ import annotations

import numpy as np

PIN = 0
"""The lane whose factor is 1."""

Lanes = np.ndarray
"""Lane numbers of a tensor, int64, of its rank; an axis along which they do not change has size 1."""


class Union:
    """Disjoint sets of lanes; the smallest number of a set stands for it, so a set with :data:`PIN` is pinned."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, dtype=np.int64)
        self._size = 1

    def fresh(self, count: int) -> np.ndarray:
        """``count`` new lanes."""
        first, self._size = self._size, self._size + count
        if self._size > self._parent.size:
            grown = np.arange(2 * self._size, dtype=np.int64)
            grown[: self._parent.size] = self._parent
            self._parent = grown
        return np.arange(first, self._size, dtype=np.int64)

    def find(self, lanes: Lanes) -> Lanes:
        """The number that stands for each lane's set."""
        while True:
            up = self._parent[lanes]
            if np.array_equal(up, lanes):
                return up
            self._parent[lanes] = self._parent[up]
            lanes = up

    def tie(self, a: Lanes, b: Lanes) -> None:
        """One factor for both, element by element (numpy's broadcasting)."""
        a, b = (x.ravel() for x in np.broadcast_arrays(a, b))
        while True:
            a, b = self.find(a), self.find(b)
            low, high = np.minimum(a, b), np.maximum(a, b)
            if np.array_equal(low, high):
                return
            np.minimum.at(self._parent, high, low)

    def pin(self, lanes: Lanes) -> None:
        """Factor 1 for all of them."""
        self.tie(lanes, np.full_like(lanes, PIN))
