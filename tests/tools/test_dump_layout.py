"""The layout's promises, on random graphs: rows, no overlap, edges downwards, frames around their own only."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fxc.tools.dump.grouping import group_by_module
from fxc.tools.dump.layout import Item, Layout, Rect, lay_out

Graph = tuple[int, list[tuple[int, int]], list[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """(nodes, edges forwards, layer of each node)."""
    count = draw(st.integers(1, 40))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] < p[1])
    edges = draw(st.lists(pairs, max_size=70)) if count > 1 else []
    modules = ["a.m.x", "a.m.y", "a.n.x", "a.n.y", "b.x", "b.y", "c"]
    return count, edges, draw(st.lists(st.sampled_from(modules), min_size=count, max_size=count))


def placed(graph: Graph) -> tuple[Layout, dict[str, str | None], dict[str, str | None]]:
    count, pairs, layers = graph
    edges = [(f"n{a}", f"n{b}") for a, b in pairs]
    inner, frames = group_by_module({f"n{i}": (layers[i],) for i in range(count)}, edges)
    around = {frame.id: frame.around for frame in frames}
    items = [
        Item(f"n{i}", 60.0 + 20 * (i % 4), 30.0 + 15 * (i % 3), inner[f"n{i}"], ghost=i % 7 == 3)
        for i in range(count)
    ]
    return lay_out(items, edges, around), inner, around


def apart(a: Rect, b: Rect) -> bool:
    slack = 0.01
    return (
        a.right <= b.x + slack or b.right <= a.x + slack or a.bottom <= b.y + slack or b.bottom <= a.y + slack
    )


def within(inner: Rect, outer: Rect) -> bool:
    slack = 0.01
    sideways = outer.x <= inner.x + slack and inner.right <= outer.right + slack
    return sideways and outer.y <= inner.y + slack and inner.bottom <= outer.bottom + slack


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_boxes_never_overlap_and_edges_go_down(graph: Graph) -> None:
    layout, _, _ = placed(graph)
    boxes = list(layout.boxes.values())
    assert all(apart(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    for row in layout.rows:
        assert all(layout.boxes[a].right <= layout.boxes[b].x + 0.01 for a, b in pairwise(row))
    for (start, end), route in layout.routes.items():
        assert layout.boxes[start].bottom <= layout.boxes[end].y
        assert all(a[1] <= b[1] + 0.01 for a, b in pairwise(route))
        assert route[0][1] == pytest.approx(layout.boxes[start].bottom)
        assert route[-1][1] == pytest.approx(layout.boxes[end].y)
        assert layout.boxes[end].x <= route[-1][0] <= layout.boxes[end].right


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_a_frame_holds_its_members_and_nothing_else(graph: Graph) -> None:
    layout, inner, around = placed(graph)

    def frames_of(group: str | None) -> list[str]:
        return [] if group is None else [group, *frames_of(around[group])]

    for name, box in layout.boxes.items():
        for frame, rect in layout.frames.items():
            assert within(box, rect) if frame in frames_of(inner[name]) else apart(box, rect)
    for frame, rect in layout.frames.items():
        for other, other_rect in layout.frames.items():
            if other in frames_of(frame):
                assert within(rect, other_rect)
            elif frame not in frames_of(other):
                assert apart(rect, other_rect)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_lines_run_through_no_box(graph: Graph) -> None:
    """The upright part of a long edge keeps clear of every box that is not its own."""
    layout, _, _ = placed(graph)
    for (start, end), route in layout.routes.items():
        for (x, top), (x2, bottom) in pairwise(route):
            if x == x2 and bottom > top:
                for name, box in layout.boxes.items():
                    inside = box.x < x < box.right and top < box.bottom - 0.01 and bottom > box.y + 0.01
                    assert not inside or name in (start, end)


def test_rows_are_longest_paths() -> None:
    names = "abcde"
    layout = lay_out(
        [Item(n, 50, 20) for n in names], [("a", "b"), ("b", "c"), ("a", "c"), ("c", "e"), ("d", "e")], {}
    )
    assert [set(row) for row in layout.rows] == [{"a"}, {"b"}, {"c", "d"}, {"e"}]


def test_a_residual_block_stays_straight_and_its_skip_runs_beside_it() -> None:
    line = ["in", "conv1", "bn", "conv2", "add", "relu"]
    edges = [*pairwise(line), ("in", "add")]
    layout = lay_out([Item(n, 80, 30) for n in line], edges, {})
    middles = {round(r.x + r.width / 2, 3) for r in layout.boxes.values()}
    assert len(middles) == 1
    skip = layout.routes["in", "add"]
    assert all(not (layout.boxes["bn"].x <= x <= layout.boxes["bn"].right) for x, _ in skip[2:-3])


def test_a_chain_of_two_thousand_is_one_straight_line() -> None:
    items = [Item(f"n{i}", 100, 40, f"g{i // 10}") for i in range(2000)]
    layout = lay_out(
        items, [(f"n{i}", f"n{i + 1}") for i in range(1999)], {f"g{i}": None for i in range(200)}
    )
    assert len({r.x for r in layout.boxes.values()}) == 1
    assert layout.rows == [[f"n{i}"] for i in range(2000)]
    assert len(layout.frames) == 200


def test_one_tensor_read_everywhere_costs_one_line_not_one_per_reader() -> None:
    """Waypoints grow with the reach of a tensor, not with reach times readers."""
    from fxc.tools.dump.lattice import ROOT, build_lattice

    chain = [(i, i + 1) for i in range(300)]
    lattice = build_lattice([(50.0, ROOT, False)] * 301, chain + [(0, i) for i in range(2, 301)], [])
    assert len(lattice.vertices) == 301 + 299


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        lay_out([Item("a", 1, 1), Item("b", 1, 1)], [("a", "b"), ("b", "a")], {})


def test_nothing_to_lay_out() -> None:
    layout = lay_out([], [], {})
    assert (layout.width, layout.height, layout.rows) == (0.0, 0.0, [])


def test_modules_used_twice_have_two_frames_and_thin_ones_none() -> None:
    layers = {
        "a": ("net.one.conv",), "b": ("net.one.bn",), "c": ("net.mid",),
        "d": ("net.one.conv",), "e": ("net.one.bn",), "f": ("head",), "g": ("head",),
    }  # fmt: skip
    inner, frames = group_by_module(layers, pairwise("abcdefg"))
    assert [f.label for f in frames].count("net.one") == 2
    assert inner["a"] == inner["b"] != inner["d"] == inner["e"]
    assert inner["f"] is None
