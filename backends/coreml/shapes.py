"""Which shapes an input of a package takes, as its description says; a batch put together of those that it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

UNBOUNDED = -1


@dataclass(frozen=True)
class Shapes:
    """Of one input.

    Attributes:
        listed: every shape that it takes, the usual one first; none where it takes a range.
        ranges: least and largest of each axis, the latter :data:`UNBOUNDED` if it has none.
    """

    listed: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()

    def admit(self, shape: Sequence[int]) -> bool:
        """Whether the input takes it."""
        if self.listed:
            return tuple(shape) in self.listed
        return len(shape) == len(self.ranges) and all(
            least <= size and (size <= most or most == UNBOUNDED)
            for size, (least, most) in zip(shape, self.ranges)
        )

    def __str__(self) -> str:
        if self.listed:
            return " or ".join(str(list(shape)) for shape in self.listed)
        return f"[{', '.join(_between(*r) for r in self.ranges)}]"

    @property
    def flexible(self) -> bool:
        """Whether there is more than one."""
        return len(self.listed) > 1 or any(least != most for least, most in self.ranges)


def _between(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least}.." if most == UNBOUNDED else f"{least}..{most}"


def shapes_of(feature: Any) -> Shapes | None:
    """Of a ``FeatureDescription`` message; ``None`` for one that is no array, or says nothing."""
    if feature.type.WhichOneof("Type") != "multiArrayType":
        return None
    array = feature.type.multiArrayType
    usual, kind = tuple(array.shape), array.WhichOneof("ShapeFlexibility")
    if kind == "enumeratedShapes":
        found = [tuple(s.shape) for s in array.enumeratedShapes.shapes]
        return Shapes(tuple(dict.fromkeys((usual, *found) if usual in found else found)))
    if kind == "shapeRange":
        return Shapes(ranges=tuple((r.lowerBound, r.upperBound) for r in array.shapeRange.sizeRanges))
    return Shapes((usual,)) if usual else None


def parts(count: int, admitted: Callable[[int], bool]) -> list[int] | None:
    """Few sizes that are all admitted and sum to ``count``; ``None`` if there are none."""
    sizes = [n for n in range(count, 0, -1) if admitted(n)]
    if not sizes or sizes[0] == count:
        return [count] if sizes else None
    # Behind the square of the largest, what can be put together can be so with one more of it.
    many = max(0, count // sizes[0] - sizes[0] - 1)
    rest = _fewest(count - many * sizes[0], sizes)
    return None if rest is None else [sizes[0]] * many + rest


def _fewest(count: int, sizes: list[int]) -> list[int] | None:
    fewest: list[list[int] | None] = [[]]
    for total in range(1, count + 1):
        found = [[n, *rest] for n in sizes if n <= total and (rest := fewest[total - n]) is not None]
        fewest.append(min(found, key=len) if found else None)
    return fewest[count]
