"""A reshape as regrouping: the factors that the old and the new dimensions have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Segment:
    """A run of old dimensions that holds the same elements as a run of new ones.

    Attributes:
        old, new: positions of the dimensions.
        factors: their common factors, row-major; ``None`` where the dimensions do not nest, as in (4, 6) -> (6, 4).
        old_factors, new_factors: for each dimension of the runs the positions of its factors.
    """

    old: range
    new: range
    factors: tuple[int, ...] | None
    old_factors: tuple[range, ...]
    new_factors: tuple[range, ...]


def segments(old: Sequence[int], new: Sequence[int]) -> Iterator[Segment]:
    """The shortest segments that make up a reshape of ``old`` sizes to ``new`` ones."""
    i = j = 0
    if 0 in old:
        yield Segment(range(len(old)), range(len(new)), None, (), ())
        return
    while i < len(old) or j < len(new):
        stop_i, stop_j = _next(old, new, i, j)
        yield _segment(old, new, range(i, stop_i), range(j, stop_j))
        i, j = stop_i, stop_j


def _next(old: Sequence[int], new: Sequence[int], i: int, j: int) -> tuple[int, int]:
    """Where the segment that starts at ``i`` and ``j`` ends; sizes of 1 go with what stands before them."""
    a, i = (old[i], i + 1) if i < len(old) else (1, i)
    b, j = (new[j], j + 1) if j < len(new) else (1, j)
    while a != b:
        if a < b:
            a, i = a * old[i], i + 1
        else:
            b, j = b * new[j], j + 1
    while i < len(old) and old[i] == 1:
        i += 1
    while j < len(new) and new[j] == 1:
        j += 1
    return i, j


def _segment(old: Sequence[int], new: Sequence[int], rows: range, columns: range) -> Segment:
    ends = sorted({*_products(old, rows), *_products(new, columns)})
    if any(ends[k + 1] % ends[k] for k in range(len(ends) - 1)):
        return Segment(rows, columns, None, (), ())
    factors = tuple(ends[k + 1] // ends[k] for k in range(len(ends) - 1))[::-1]
    return Segment(
        rows,
        columns,
        factors,
        _spans(factors, [old[i] for i in rows]),
        _spans(factors, [new[j] for j in columns]),
    )


def _products(sizes: Sequence[int], span: range) -> list[int]:
    """Products of the last 0, 1, 2, … sizes of a span."""
    return [prod(sizes[k] for k in range(span.stop - n, span.stop)) for n in range(len(span) + 1)]


def _spans(factors: Sequence[int], sizes: Sequence[int]) -> tuple[range, ...]:
    """Which factors make up each size."""
    spans, at = [], 0
    for size in sizes:
        start, product = at, 1
        while product < size:
            product, at = product * factors[at], at + 1
        spans.append(range(start, at))
    return tuple(spans)
