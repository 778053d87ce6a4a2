"""Second step of the layout: who stands left of whom, by barycentre sweeps over chains and groups."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from fxc.tools.dump.columns import Contradiction, pulls_between, separations, straight_columns
from fxc.tools.dump.lattice import ROOT, Lattice, ancestors

SWEEPS = 12
ROUNDS = 30
LAST_ROUNDS = 300
"""Rounds of relaxation within the sweeps and at the end."""


@dataclass(frozen=True)
class Forest:
    """Chains and groups as one forest: what has to stay together from left to right.

    A chain is a run of vertices that continue each other inside one group. Items are groups (their own numbers) and
    chains (their number plus the number of groups).

    Attributes:
        parents: the group around each group.
        chain: the chain of each vertex.
        chain_group: the group of each chain.
    """

    parents: Sequence[int]
    chain: list[int]
    chain_group: list[int]

    def children(self, leads: Sequence[int]) -> dict[int, list[int]]:
        """Items directly inside each group, in order of appearance, those of one lead together."""
        inside: dict[int, list[int]] = {}
        seen: set[int] = set()
        groups = len(self.parents)
        for c, group in enumerate(self.chain_group):
            item = groups + c
            for around in [*ancestors(group, self.parents), ROOT]:
                if item in seen:
                    break
                seen.add(item)
                inside.setdefault(around, []).append(item)
                item = around
        for items in inside.values():
            first: dict[int, int] = {}
            for i, item in enumerate(items):
                first.setdefault(leads[item], i)
            items.sort(key=lambda item: first[leads[item]])
        return inside

    def leads(self, lattice: Lattice) -> list[int]:
        """The line that each item belongs to: of the lines that run through it, the longest.

        Items of one lead stand on the same side of all others, else a long edge would have to cross that line.
        """
        line = straight_columns(lattice, self.chain, len(self.chain_group), ties=True)
        groups = len(self.parents)
        length = Counter(line[self.chain[v]] for v, vertex in enumerate(lattice.vertices) if vertex.is_box)
        found: list[set[int]] = [set() for _ in range(groups + len(self.chain_group))]
        for c, group in enumerate(self.chain_group):
            for item in (groups + c, *ancestors(group, self.parents)):
                found[item].add(line[c])
        return [min(lines, key=lambda c: (-length[c], c), default=-1) for lines in found]


def arrange(lattice: Lattice, parents: Sequence[int]) -> tuple[list[list[int]], list[float]]:
    """Order every row and place every vertex.

    Returns:
        The rows from left to right, and the x of every vertex's middle.
    """
    forest = _forest(lattice, parents)
    column = straight_columns(lattice, forest.chain, len(forest.chain_group), ties=False)
    leads = forest.leads(lattice)
    inside = forest.children(leads)
    rows = _rows(lattice, forest, inside)
    x = _solve(lattice, forest, rows, column, ROUNDS)
    best = (_badness(lattice, rows, x), rows)
    settled = 0
    for sweep in range(SWEEPS):
        _sort_children(lattice, forest, inside, leads, x, downwards=sweep % 2 == 0)
        before, rows = rows, _rows(lattice, forest, inside)
        settled = settled + 1 if rows == before else 0
        if settled == 2:
            break
        x = _solve(lattice, forest, rows, column, ROUNDS)
        best = min(best, (_badness(lattice, rows, x), rows), key=lambda found: found[0])
    rows = best[1]
    return rows, _solve(lattice, forest, rows, column, LAST_ROUNDS)


def _forest(lattice: Lattice, parents: Sequence[int]) -> Forest:
    chain = [-1] * len(lattice.vertices)
    groups: list[int] = []
    for row in lattice.rows:
        for v in row:
            above = lattice.up[v][0] if len(lattice.up[v]) == 1 else None
            if above is not None and _continues(lattice, above, v):
                chain[v] = chain[above]
            else:
                chain[v] = len(groups)
                groups.append(lattice.vertices[v].group)
    return Forest(parents, chain, groups)


def _continues(lattice: Lattice, above: int, v: int) -> bool:
    """Whether two vertices belong to one chain: neighbours of one box line, or waypoints of one trunk."""
    a, b = lattice.vertices[above], lattice.vertices[v]
    if a.group != b.group or a.is_box != b.is_box or a.ghost != b.ghost:
        return False
    return a.source == b.source if not a.is_box else len(lattice.down[above]) == 1


def _rows(lattice: Lattice, forest: Forest, inside: dict[int, list[int]]) -> list[list[int]]:
    """Rows in the forest's depth-first order, which keeps every group together."""
    position = [0] * len(forest.chain_group)
    groups, stack, count = len(forest.parents), list(reversed(inside.get(ROOT, []))), 0
    while stack:
        item = stack.pop()
        if item < groups:
            stack.extend(reversed(inside.get(item, [])))
        else:
            position[item - groups] = count
            count += 1
    return [sorted(row, key=lambda v: position[forest.chain[v]]) for row in lattice.rows]


def _solve(
    lattice: Lattice, forest: Forest, rows: list[list[int]], column: list[int], rounds: int
) -> list[float]:
    """x of every vertex for an order; columns that contradict it fall apart into chains."""
    while True:
        of_vertex = [column[c] for c in forest.chain]
        try:
            demands = separations(lattice, forest.parents, rows, of_vertex)
        except Contradiction as contradiction:
            column = _apart(column, contradiction.columns)
            continue
        pulls = pulls_between(lattice, of_vertex)
        x = demands.relax(demands.packed(), pulls, rounds)
        demands.settle(x, pulls, rounds // 4)
        return [x[c] for c in of_vertex]


def _apart(column: list[int], apart: set[int]) -> list[int]:
    """Columns in ``apart`` dissolved: each of their chains is a column of its own."""
    number: dict[tuple[int, int], int] = {}
    keys = [(c, chain if c in apart else -1) for chain, c in enumerate(column)]
    return [number.setdefault(key, len(number)) for key in keys]


def _badness(lattice: Lattice, rows: Sequence[Sequence[int]], x: Sequence[float]) -> tuple[int, float]:
    """Crossings, then sideways way of all segments, to the pixel."""
    sideways = sum(abs(x[v] - x[w]) for v, down in enumerate(lattice.down) for w in down)
    return _crossings(lattice, rows), round(sideways)


def _sort_children(
    lattice: Lattice,
    forest: Forest,
    inside: dict[int, list[int]],
    leads: Sequence[int],
    x: list[float],
    *,
    downwards: bool,
) -> None:
    """Sort every group's items by the mean x of what feeds them (or, upwards, of what reads them) from outside.

    Items of one lead are sorted as one.
    """
    near = lattice.up if downwards else lattice.down
    groups = len(forest.parents)
    outside: dict[tuple[int, int], list[float]] = defaultdict(list)
    own: dict[tuple[int, int], list[float]] = defaultdict(list)
    around_item = {item: around for around, items in inside.items() for item in items}
    for v, vertex in enumerate(lattice.vertices):
        path = [groups + forest.chain[v], *ancestors(vertex.group, forest.parents)]
        bundles = [(around_item[item], leads[item]) for item in path]
        for bundle in bundles:
            own[bundle].append(x[v])
        for w in near[v]:
            shared = {groups + forest.chain[w], *ancestors(lattice.vertices[w].group, forest.parents)}
            for item, bundle in zip(path, bundles):
                if item in shared:
                    break
                outside[bundle].append(x[w])
    keys = {bundle: round(fmean(outside.get(bundle, xs)), 1) for bundle, xs in own.items()}
    for around, items in inside.items():
        ranked = {item: (keys[around, leads[item]], leads[item]) for item in items}
        items.sort(key=ranked.__getitem__)


def _crossings(lattice: Lattice, rows: Sequence[Sequence[int]]) -> int:
    """How many segments cross; in each gap, pairs whose ends are in opposite order."""
    crossings = 0
    for upper, lower in pairwise(rows):
        position = {v: i for i, v in enumerate(lower)}
        seen: list[int] = []
        for v in upper:
            ends = sorted(position[w] for w in lattice.down[v])
            crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                seen.insert(bisect_right(seen, end), end)
    return crossings
