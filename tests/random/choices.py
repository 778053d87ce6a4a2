"""Where random decisions come from: a seed, so that a number names a model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Decisions from a seed: the same text gives the same decisions."""

    def __init__(self, seed: str):
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both included."""
        return self._random.randint(low, high)

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``."""
        return items[self._random.randrange(len(items))]

    def chance(self, percent: int) -> bool:
        """True that often."""
        return self._random.randrange(100) >= 100 - percent
