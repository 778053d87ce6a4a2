"""Layered layout of a graph: rows from top to bottom, straight chains, groups in frames, nothing overlapping.

The method is Sugiyama's: rows by longest path, order by barycentre sweeps, then coordinates; long edges run through
waypoints. Groups are kept together from left to right, as in Sander's "Layout of compound directed graphs" (1996).
Everything is close to linear in boxes plus waypoints, and the same input gives the same picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fxc.tools.dump.columns import frame_sides
from fxc.tools.dump.lattice import ROOT, Lattice, build_lattice
from fxc.tools.dump.ordering import arrange

ROW_GAP = 32.0
FRAME_HEAD = 24.0
FRAME_FOOT = 12.0
PORT_INSET = 14.0
LANDING = 9.0
"""Last straight piece of an edge, so that its arrow points down."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Item:
    """A box to be placed: its size in pixels, its innermost group, and whether it is only a memory (removed)."""

    name: str
    width: float
    height: float
    group: str | None = None
    ghost: bool = False


@dataclass(frozen=True)
class Rect:
    """A rectangle in pixels, y downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The lower side."""
        return self.y + self.height


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        boxes: rectangle of every item.
        rows: names of the items of each row, from left to right.
        frames: rectangle of every group.
        routes: points from the foot of the producer to the head of the reader, for every edge; y never decreases.
        width, height: of the whole.
    """

    boxes: dict[str, Rect]
    rows: list[list[str]]
    frames: dict[str, Rect]
    routes: dict[tuple[str, str], list[Point]]
    width: float
    height: float


def lay_out(
    items: Sequence[Item], edges: Sequence[tuple[str, str]], groups: Mapping[str, str | None]
) -> Layout:
    """Place boxes, frames and edges.

    Args:
        items: the boxes.
        edges: (producer, reader) names, acyclic; repetitions count once.
        groups: every group and the group around it. The members of a group should be connected, else its frame can
            reach across others.

    Raises:
        ValueError: the edges have a cycle.
    """
    number = {item.name: i for i, item in enumerate(items)}
    group_number = {group: i for i, group in enumerate(groups)}
    parents = [ROOT if around is None else group_number[around] for around in groups.values()]
    boxes = [(i.width, ROOT if i.group is None else group_number[i.group], i.ghost) for i in items]
    lattice = build_lattice(boxes, [(number[a], number[b]) for a, b in edges], parents)
    rows, x = arrange(lattice, parents)
    tops, heights, frames_y = _row_positions(lattice, parents, [item.height for item in items])
    sides = frame_sides(lattice, parents, x)
    left = min([s[0] for s in sides] + [x[v] - box[0] / 2 for v, box in enumerate(boxes)], default=0.0)
    x = [value - left for value in x]
    frames = {
        name: Rect(
            sides[g][0] - left, frames_y[g][0], sides[g][1] - sides[g][0], frames_y[g][1] - frames_y[g][0]
        )
        for name, g in group_number.items()
    }
    rects = {
        item.name: _rect(item, x[v], tops[lattice.vertices[v].row], heights[lattice.vertices[v].row])
        for v, item in enumerate(items)
    }
    return Layout(
        boxes=rects,
        rows=[[items[v].name for v in row if v < len(items)] for row in rows],
        frames=frames,
        routes={
            (a, b): _route(lattice, number[a], number[b], rects[a], rects[b], x, tops, heights)
            for a, b in edges
        },
        width=max([r.right for r in (*rects.values(), *frames.values())] + x, default=0.0),
        height=max((r.bottom for r in (*rects.values(), *frames.values())), default=0.0),
    )


def _rect(item: Item, middle: float, top: float, height: float) -> Rect:
    return Rect(middle - item.width / 2, top + (height - item.height) / 2, item.width, item.height)


def _row_positions(
    lattice: Lattice, parents: Sequence[int], box_heights: Sequence[float]
) -> tuple[list[float], list[float], list[tuple[float, float]]]:
    """Top and height of every row, with room for frame heads and feet, and (top, bottom) of every frame."""
    count = len(lattice.rows)
    heights = [
        max((box_heights[v] for v in row if v < len(box_heights)), default=0.0) for row in lattice.rows
    ]
    span = _spans(lattice, parents)
    heads, feet = _nested(span, parents, start=True), _nested(span, parents, start=False)
    room = [0.0] * count
    foot = [0.0] * count
    for g, (first, last) in enumerate(span):
        room[first] = max(room[first], heads[g])
        foot[last] = max(foot[last], feet[g])
    tops, y = [], 0.0
    for row in range(count):
        y += room[row] * FRAME_HEAD
        tops.append(y)
        y += heights[row] + foot[row] * FRAME_FOOT + ROW_GAP
    frames = [
        (tops[first] - heads[g] * FRAME_HEAD, tops[last] + heights[last] + feet[g] * FRAME_FOOT)
        for g, (first, last) in enumerate(span)
    ]
    return tops, heights, frames


def _spans(lattice: Lattice, parents: Sequence[int]) -> list[tuple[int, int]]:
    spans = [(len(lattice.rows), -1)] * len(parents)
    for vertex in lattice.vertices:
        group = vertex.group
        while group != ROOT:
            spans[group] = (min(spans[group][0], vertex.row), max(spans[group][1], vertex.row))
            group = parents[group]
    return spans


def _nested(span: Sequence[tuple[int, int]], parents: Sequence[int], *, start: bool) -> list[int]:
    """How many frames deep each group's head (or foot) has to reach: its own plus those inside at the same row."""
    depth = [1] * len(parents)
    for g in sorted(range(len(parents)), key=lambda g: -_depth(g, parents)):
        around = parents[g]
        end = 0 if start else 1
        if around != ROOT and span[around][end] == span[g][end]:
            depth[around] = max(depth[around], depth[g] + 1)
    return depth


def _depth(group: int, parents: Sequence[int]) -> int:
    depth = 0
    while group != ROOT:
        group, depth = parents[group], depth + 1
    return depth


def _route(
    lattice: Lattice,
    a: int,
    b: int,
    start: Rect,
    end: Rect,
    x: Sequence[float],
    tops: Sequence[float],
    heights: Sequence[float],
) -> list[Point]:
    """Through the trunk's waypoints, straight down each row, sideways between rows; lands inside the reader's head."""
    rows = lattice.vertices[b].row - lattice.vertices[a].row
    row = lattice.vertices[a].row
    points = [(x[a], start.bottom), (x[a], tops[row] + heights[row])]
    for w in lattice.trunks[a][: rows - 1]:
        row = lattice.vertices[w].row
        points += [(x[w], tops[row]), (x[w], tops[row] + heights[row])]
    inset = min(PORT_INSET, end.width / 2)
    port = min(max(points[-1][0], end.x + inset), end.right - inset)
    row = lattice.vertices[b].row
    return points + [(port, end.y - LANDING), (port, end.y)]
