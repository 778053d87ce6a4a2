"""Third step of the layout: an x for every column of vertices, so that nothing overlaps and lines are straight."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import sub

from fxc.tools.dump.lattice import ROOT, Lattice, ancestors

BOX_GAP = 22.0
TRUNK_GAP = 12.0
FRAME_PAD = 12.0
FRAME_GAP = 20.0
FRAME_MASS = 0.3
MOST_WORK = 2_000_000
"""Relaxation of a very large graph ends early, after this many elementary steps."""

STILL = 0.5
"""Settling ends when nothing moves by more than this many pixels."""

DIRECT_PULL = 4.0
"""How much harder a direct edge pulls its ends into one column than a long edge, whose line can bend."""


class Contradiction(Exception):
    """Columns that no x can satisfy: each would have to be left of another of them."""

    def __init__(self, columns: set[int]):
        self.columns = columns
        super().__init__(f"{len(columns)} columns contradict the rows' order")


Pulls = Sequence[Sequence[tuple[int, float]]]
"""For each column, (column, weight) of everything that it is connected with."""

Constraint = tuple[int, int, float]
"""Variable, variable to its right, least distance."""


@dataclass(frozen=True)
class Separations:
    """The rows' separations as a partial order of variables: first the columns, then two sides for every frame.

    Attributes:
        count: how many columns there are.
        before, after: for each variable, (neighbour, least distance) on its left and on its right.
        order: all variables from left to right.
        half: half the width of each variable's widest vertex.
    """

    count: int
    before: list[list[tuple[int, float]]]
    after: list[list[tuple[int, float]]]
    order: list[int]
    half: list[float]

    def packed(self) -> list[float]:
        """x of every variable in the least total width, in the middle of what slack it has.

        Everything as far left as it goes is one solution, as far right another; their mean is a third, because the
        separations are linear.
        """
        low = self._pushed_right(list(self.half))
        width = max((x + half for x, half in zip(low, self.half)), default=0.0)
        high = self._pushed_left([width - half for half in self.half])
        return [(a + b) / 2 for a, b in zip(low, high)]

    def _pushed_right(self, x: list[float]) -> list[float]:
        for a in self.order:
            for b, gap in self.after[a]:
                x[b] = max(x[b], x[a] + gap)
        return x

    def _pushed_left(self, x: list[float]) -> list[float]:
        for a in reversed(self.order):
            for b, gap in self.after[a]:
                x[a] = min(x[a], x[b] - gap)
        return x

    def relax(self, x: list[float], pulls: Pulls, rounds: int) -> list[float]:
        """Let connected columns attract each other while separations push them apart, heavy against light.

        A column moves half the way to the mean of what pulls it; then each violated separation moves its two sides
        apart, the lighter one further. What is still violated at the end is pushed out of the way on both sides.
        """
        mass = [sum(weight for _, weight in pull) + FRAME_MASS for pull in pulls]
        mass += [FRAME_MASS] * (len(x) - self.count)
        share = [(a, b, gap, mass[b] / (mass[a] + mass[b])) for a in self.order for b, gap in self.after[a]]
        parts = [[(c, weight / (2 * sum(w for _, w in pull))) for c, weight in pull] for pull in pulls]
        work = len(share) + sum(map(len, parts)) + 1
        for _ in range(min(rounds, MOST_WORK // work + 1)):
            before = x
            x = [
                x[c] / 2 + sum([x[other] * part for other, part in pull]) if pull else x[c]
                for c, pull in enumerate(parts)
            ] + x[self.count :]
            for a, b, gap, part in share:
                lacking = x[a] + gap - x[b]
                if lacking > 0:
                    x[a] -= lacking * part
                    x[b] += lacking * (1 - part)
            if max(map(abs, map(sub, before, x)), default=0.0) < STILL / 10:
                break
        return [(a + b) / 2 for a, b in zip(self._pushed_right(list(x)), self._pushed_left(list(x)))]

    def settle(self, x: list[float], pulls: Pulls, rounds: int) -> None:
        """Move each column in turn to the median of what pulls it, as far as its neighbours let it.

        No move makes the weighted length of all sideways ways longer, so this ends.

        Args:
            x: of every column; changed in place.
            pulls: for each column, (column, weight) of everything it is connected with.
            rounds: at most this many sweeps to the right and back.
        """
        columns = [v for v in self.order if v < self.count]
        for _ in range(rounds):
            moved = 0.0
            for c in (*columns, *reversed(columns)):
                if pulls[c]:
                    target = _median([(x[other], weight) for other, weight in pulls[c]])
                    target = min(max(target, self._low(c, x)), self._high(c, x))
                    moved = max(moved, abs(target - x[c]))
                    x[c] = target
            if moved < STILL:
                return

    def _low(self, v: int, x: list[float]) -> float:
        """How far left a variable can go; frames give way as far as what is outside of them does."""
        limits = ((x[a] if a < self.count else self._low(a, x)) + gap for a, gap in self.before[v])
        return max(limits, default=float("-inf"))

    def _high(self, v: int, x: list[float]) -> float:
        limits = ((x[b] if b < self.count else self._high(b, x)) - gap for b, gap in self.after[v])
        return min(limits, default=float("inf"))


def _median(values: list[tuple[float, float]]) -> float:
    """Weighted median; the middle between two values when either would do."""
    values.sort()
    half = sum(weight for _, weight in values) / 2
    reached = 0.0
    for i, (value, weight) in enumerate(values):
        reached += weight
        if reached > half:
            return value
        if reached == half:
            return (value + values[i + 1][0]) / 2
    raise ValueError("the median of nothing")


def separations(
    lattice: Lattice, parents: Sequence[int], rows: Sequence[Sequence[int]], column: list[int]
) -> Separations:
    """What the order of the rows demands.

    Args:
        lattice: vertices with rows and groups.
        parents: the group around each group.
        rows: the vertices of each row from left to right, members of a group together.
        column: the column of each vertex; a column's vertices get one x.

    Raises:
        Contradiction: columns that would have to be left of each other.
    """
    count = max(column, default=-1) + 1
    wide = count + 2 * len(parents)
    before: list[list[tuple[int, float]]] = [[] for _ in range(wide)]
    after: list[list[tuple[int, float]]] = [[] for _ in range(wide)]
    for a, b, gap in _constraints(lattice, parents, rows, column, count):
        after[a].append((b, gap))
        before[b].append((a, gap))
    order = _topological(after)
    if len(order) < wide:
        raise Contradiction({v for v in _rings(after, order) if v < count})
    half = [0.0] * wide
    for v, c in enumerate(column):
        half[c] = max(half[c], lattice.vertices[v].width / 2)
    return Separations(count, before, after, order, half)


def pulls_between(lattice: Lattice, column: list[int]) -> Pulls:
    """For each column, what it is connected with and how strongly; a box's long edges share one weight."""
    found: list[dict[int, float]] = [defaultdict(float) for _ in range(max(column, default=-1) + 1)]
    vertices = lattice.vertices
    long = [sum(1 for v in up if not vertices[v].is_box) for up in lattice.up]
    for v, down in enumerate(lattice.down):
        for w in down:
            if column[v] != column[w]:
                direct = vertices[v].is_box and vertices[w].is_box
                weight = DIRECT_PULL if direct else 1.0 / max(1, long[w])
                found[column[v]][column[w]] += weight
                found[column[w]][column[v]] += weight
    return [list(pull.items()) for pull in found]


def _constraints(
    lattice: Lattice, parents: Sequence[int], rows: Sequence[Sequence[int]], column: list[int], count: int
) -> Iterator[Constraint]:
    """Least distances between neighbours in a row; a group's frame has a left and a right variable of its own."""
    largest: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows:
        tokens = list(_tokens(lattice, parents, row, column, count))
        for (a, half_a, kind_a), (b, half_b, kind_b) in pairwise(tokens):
            gap = half_a + half_b + _gap(kind_a, kind_b)
            largest[a, b] = max(largest[a, b], gap)
    for (a, b), gap in largest.items():
        yield a, b, gap


def _tokens(
    lattice: Lattice, parents: Sequence[int], row: Sequence[int], column: list[int], count: int
) -> Iterator[tuple[int, float, str]]:
    """A row as (variable, half width, kind), with frames opened and closed around their members."""
    inside: list[int] = []
    for v in row:
        vertex = lattice.vertices[v]
        path = ancestors(vertex.group, parents)[::-1]
        keep = sum(1 for _ in _common(inside, path))
        for group in reversed(inside[keep:]):
            yield count + 2 * group + 1, 0.0, "close"
        for group in path[keep:]:
            yield count + 2 * group, 0.0, "open"
        inside = path
        yield column[v], vertex.width / 2, "box" if vertex.is_box else "line"
    for group in reversed(inside):
        yield count + 2 * group + 1, 0.0, "close"


def _common(a: Sequence[int], b: Sequence[int]) -> Iterator[int]:
    for x, y in zip(a, b):
        if x != y:
            return
        yield x


def _gap(left: str, right: str) -> float:
    if left == "open" or right == "close":
        return FRAME_PAD
    if left == "close" or right == "open":
        return FRAME_GAP if "line" not in (left, right) else TRUNK_GAP
    return TRUNK_GAP if "line" in (left, right) else BOX_GAP


def _topological(after: Sequence[Sequence[tuple[int, float]]]) -> list[int]:
    """Variables in an order that respects all constraints; those in a ring, and what follows one, are missing."""
    waiting = [0] * len(after)
    for following in after:
        for b, _ in following:
            waiting[b] += 1
    order = [v for v in range(len(after)) if not waiting[v]]
    for a in order:
        for b, _ in after[a]:
            waiting[b] -= 1
            if not waiting[b]:
                order.append(b)
    return order


def _rings(after: Sequence[Sequence[tuple[int, float]]], order: Sequence[int]) -> set[int]:
    """What is left of the constraints when everything outside a ring is taken away from both ends."""
    left = set(range(len(after))) - set(order)
    before: list[list[tuple[int, float]]] = [[] for _ in after]
    for a in left:
        for b, gap in after[a]:
            before[b].append((a, gap))
    return left - set(_topological(before))


def straight_columns(lattice: Lattice, chain: Sequence[int], chains: int, *, ties: bool) -> list[int]:
    """Join chains that continue each other into columns: a main line stays straight past its branches.

    Two chains join where each end prefers the other above all else: a living box over a waypoint over a ghost.

    Args:
        lattice: the vertices.
        chain: the chain of each vertex.
        chains: how many there are.
        ties: whether one of several equals is preferred, the one with the longest way to go; without, only the one
            that begins a longer chain than all others is, and a fork into equals ends a column.

    Returns:
        The column of each chain.
    """
    joined = list(range(chains))

    def find(c: int) -> int:
        while joined[c] != c:
            joined[c] = joined[joined[c]]
            c = joined[c]
        return c

    if ties:
        ranks = [(ahead, -v) for v, ahead in enumerate(_way_to_go(lattice))]
    else:
        boxes = Counter(chain[v] for v, vertex in enumerate(lattice.vertices) if vertex.is_box)
        ranks = [(boxes[c], 0) for c in chain]
    for v in range(len(lattice.vertices)):
        w = _favourite(lattice, lattice.down[v], ranks)
        if w is not None and chain[w] != chain[v] and _favourite(lattice, lattice.up[w], ranks) == v:
            joined[find(chain[w])] = find(chain[v])
    return _dense([find(c) for c in range(chains)])


def _way_to_go(lattice: Lattice) -> list[int]:
    """Number of rows below each vertex that its longest path reaches."""
    ahead = [0] * len(lattice.vertices)
    for row in reversed(lattice.rows):
        for v in row:
            ahead[v] = max((ahead[w] + 1 for w in lattice.down[v]), default=0)
    return ahead


def _favourite(lattice: Lattice, neighbours: Sequence[int], ranks: Sequence[tuple[int, int]]) -> int | None:
    """The neighbour that lives most and, among equals, ranks highest; none if two rank the same."""
    ranked = sorted(((_living(lattice, v), ranks[v], v) for v in neighbours), reverse=True)
    if not ranked or (len(ranked) > 1 and ranked[0][:2] == ranked[1][:2]):
        return None
    return ranked[0][2]


def _living(lattice: Lattice, v: int) -> int:
    vertex = lattice.vertices[v]
    return 0 if vertex.ghost else 2 if vertex.is_box else 1


def _dense(labels: Sequence[int]) -> list[int]:
    number: dict[int, int] = {}
    return [number.setdefault(label, len(number)) for label in labels]


def frame_sides(lattice: Lattice, parents: Sequence[int], x: Sequence[float]) -> list[tuple[float, float]]:
    """Left and right side of each group's frame, tight around its members and the frames inside it."""
    sides = [(float("inf"), float("-inf"))] * len(parents)
    for v, vertex in enumerate(lattice.vertices):
        left, right = x[v] - vertex.width / 2, x[v] + vertex.width / 2
        group = vertex.group
        while group != ROOT:
            left, right = left - FRAME_PAD, right + FRAME_PAD
            sides[group] = (min(sides[group][0], left), max(sides[group][1], right))
            group = parents[group]
    return sides
