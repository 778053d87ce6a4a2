"""First step of the layout: rows by longest path, and long edges as one trunk of waypoints per source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

ROOT = -1
"""The group of what is in no group."""

TRUNK_WIDTH = 6.0


@dataclass(frozen=True)
class Vertex:
    """A box or a waypoint of a long edge.

    Attributes:
        width: in pixels.
        group: index of the innermost group, or ``ROOT``.
        row: rows count downwards from 0.
        source: for a waypoint, the box whose edge it carries; -1 for a box.
        ghost: whether it belongs to the graph before, drawn beside the living.
    """

    width: float
    group: int
    row: int
    source: int
    ghost: bool

    @property
    def is_box(self) -> bool:
        """Whether the vertex is a box."""
        return self.source < 0


@dataclass(frozen=True)
class Lattice:
    """Vertices in rows; every segment joins a row with the next one.

    Attributes:
        vertices: boxes first, under their own numbers, then waypoints.
        up, down: neighbours of each vertex in the row above and below.
        rows: vertex numbers of each row.
        trunks: box to its waypoints, from the row below it downwards.
    """

    vertices: list[Vertex]
    up: list[list[int]]
    down: list[list[int]]
    rows: list[list[int]]
    trunks: dict[int, list[int]]


def assign_rows(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Row of every node: its longest path from a source; a source stands right above its first reader.

    Args:
        count: number of nodes.
        edges: (producer, reader) pairs of an acyclic graph.
    """
    readers: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for a, b in edges:
        readers[a].append(b)
        waiting[b] += 1
    row = [0] * count
    sources = [v for v in range(count) if not waiting[v]]
    ready = list(sources)
    for v in ready:
        for w in readers[v]:
            row[w] = max(row[w], row[v] + 1)
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    if len(ready) != count:
        raise ValueError("the graph to lay out has a cycle")
    for v in sources:
        row[v] = min((row[w] for w in readers[v]), default=1) - 1
    return row


def build_lattice(
    boxes: Sequence[tuple[float, int, bool]], edges: Sequence[tuple[int, int]], parents: Sequence[int]
) -> Lattice:
    """Put boxes in rows and route long edges.

    All edges of one producer share one trunk, so a tensor that many read is one line with branches and the number
    of waypoints grows with the producers' reach, not with the number of edges.

    Args:
        boxes: (width, group, ghost) of each box.
        edges: (producer, reader) pairs, acyclic.
        parents: the group around each group, or ``ROOT``.
    """
    row = assign_rows(len(boxes), edges)
    vertices = [Vertex(width, group, row[v], -1, ghost) for v, (width, group, ghost) in enumerate(boxes)]
    readers: dict[int, list[int]] = defaultdict(list)
    for a, b in dict.fromkeys(edges):
        readers[a].append(b)
    spans = _group_spans(vertices, parents)
    segments: list[tuple[int, int]] = []
    trunks: dict[int, list[int]] = {}
    for a, bs in readers.items():
        trunks[a] = _trunk(a, bs, vertices, parents, spans)
        line = [a, *trunks[a]]
        segments += list(pairwise(line))
        segments += [(line[row[b] - row[a] - 1], b) for b in bs]
    return _assemble(vertices, segments, trunks)


def ancestors(group: int, parents: Sequence[int]) -> list[int]:
    """Groups around something in ``group``, innermost first, ``ROOT`` not included."""
    chain = []
    while group != ROOT:
        chain.append(group)
        group = parents[group]
    return chain


def _group_spans(vertices: Sequence[Vertex], parents: Sequence[int]) -> list[tuple[int, int]]:
    spans = [(1 << 60, -1)] * len(parents)
    for v in vertices:
        for g in ancestors(v.group, parents):
            spans[g] = (min(spans[g][0], v.row), max(spans[g][1], v.row))
    return spans


def _trunk(
    a: int,
    readers: Sequence[int],
    vertices: list[Vertex],
    parents: Sequence[int],
    spans: Sequence[tuple[int, int]],
) -> list[int]:
    """Append the waypoints of box ``a`` and return them."""
    last = max(vertices[b].row for b in readers)
    ghost = vertices[a].ghost or all(vertices[b].ghost for b in readers)
    trunk = []
    for row in range(vertices[a].row + 1, last):
        ahead = [vertices[b].group for b in readers if vertices[b].row > row]
        group = _waypoint_group(row, vertices[a].group, ahead, parents, spans)
        trunk.append(len(vertices))
        vertices.append(Vertex(TRUNK_WIDTH, group, row, a, ghost))
    return trunk


def _waypoint_group(
    row: int, source: int, ahead: Sequence[int], parents: Sequence[int], spans: Sequence[tuple[int, int]]
) -> int:
    """The group a waypoint runs through: its source's while that lasts, else the one all readers ahead share."""

    def spanning(groups: list[int]) -> int:
        return next((g for g in groups if spans[g][0] <= row <= spans[g][1]), ROOT)

    leaving = spanning(ancestors(source, parents))
    shared = set(ancestors(ahead[0], parents))
    for group in set(ahead[1:]):
        shared &= set(ancestors(group, parents))
    entering = spanning([g for g in ancestors(ahead[0], parents) if g in shared])
    if leaving == ROOT or leaving in ancestors(entering, parents):
        return entering
    return leaving


def _assemble(
    vertices: list[Vertex], segments: list[tuple[int, int]], trunks: dict[int, list[int]]
) -> Lattice:
    up: list[list[int]] = [[] for _ in vertices]
    down: list[list[int]] = [[] for _ in vertices]
    for a, b in segments:
        down[a].append(b)
        up[b].append(a)
    rows: list[list[int]] = [[] for _ in range(max((v.row for v in vertices), default=-1) + 1)]
    for number, vertex in enumerate(vertices):
        rows[vertex.row].append(number)
    return Lattice(vertices, up, down, rows, trunks)
