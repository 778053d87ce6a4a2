"""A scene as SVG text: no drawing library, no external resource, the same bytes for the same graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from xml.sax.saxutils import escape, quoteattr

from fxc.tools.dump.layout import Item, Layout, Point, Rect, lay_out
from fxc.tools.dump.scene import Box, Line, Scene, columns_of

CHAR = 7.3
"""Width in pixels of one column of the 12-pixel font; the op's line is set 13 pixels high."""

LINE = 16.0
BOX_PAD = 12.0
MARGIN = 28.0
HEADER = 64.0
BADGES = {"added": "+", "removed": "−", "changed": "~", "rewired": "→"}

_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def scene_svg(scene: Scene, title: str) -> str:
    """The picture of a scene.

    Args:
        scene: what to draw.
        title: stands above the picture.

    Returns:
        A well-formed SVG document; every text from the model is escaped.
    """
    layout = lay_out(
        [Item(b.name, *_size(b), group=b.frame, ghost=b.state == "removed") for b in scene.boxes],
        [(e.start, e.end) for e in scene.edges],
        {frame.id: frame.around for frame in scene.frames},
    )
    width = max(layout.width + 2 * MARGIN, 760.0)
    height = layout.height + HEADER + 2 * MARGIN
    style = files("fxc.tools.dump").joinpath("picture.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fxc-picture" role="img" '
            f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}">',
            f"<title>{_text(title)}</title>",
            f"<style>{_text(style)}</style>",
            _arrowheads(),
            f'<g class="header"><text class="title" x="{_n(MARGIN)}" y="30">{_text(title)}</text>',
            *_legend(),
            "</g>",
            f'<g class="graph" transform="translate({_n((width - layout.width) / 2)} {_n(HEADER + MARGIN)})">',
            *_frames(scene, layout),
            *_edges(scene, layout),
            *_frame_labels(scene, layout),
            *(_node(box, layout.boxes[box.name]) for box in scene.boxes),
            "</g>",
            "</svg>\n",
        ]
    )


def _n(value: float) -> str:
    """A coordinate: tenths of a pixel, no trailing zeros, no minus zero."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _text(text: str) -> str:
    """Text for an element: escaped, characters that XML forbids shown as �."""
    return escape(_UNPRINTABLE.sub("\ufffd", text))


def _attribute(text: str) -> str:
    """A quoted attribute value."""
    return quoteattr(_UNPRINTABLE.sub("\ufffd", text))


def _size(box: Box) -> tuple[float, float]:
    columns = max(columns_of(line.text) * (13 / 12 if line.role == "op" else 1) for line in box.lines)
    return max(columns * CHAR + 2 * BOX_PAD, 90.0), len(box.lines) * LINE + 12.0


def _arrowheads() -> str:
    heads = (
        f'<marker id="tip-{kind}" class="tip-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 8 4 0 7.2z"/></marker>'
        for kind in ("float", "quantized", "removed")
    )
    return f"<defs>{''.join(heads)}</defs>"


def _legend() -> Iterator[str]:
    """A row of samples under the title."""
    x = MARGIN
    for state in ("added", "removed", "changed", "rewired"):
        yield (
            f'<g class="node {state}"><rect class="card" x="{_n(x)}" y="44" width="22" height="16" rx="3"/>'
            f'<text class="badge" x="{_n(x + 11)}" y="57">{BADGES[state]}</text></g>'
            f'<text x="{_n(x + 28)}" y="56">{state}</text>'
        )
        x += 28 + columns_of(state) * CHAR + 20
    for kind, name in (("", "float"), ("quantized", "integer"), ("removed", "no longer")):
        yield (f'<path class="edge {kind}" d="M{_n(x)} 52h34"/><text x="{_n(x + 40)}" y="56">{name}</text>')
        x += 40 + columns_of(name) * CHAR + 20


def _frames(scene: Scene, layout: Layout) -> Iterator[str]:
    for frame in scene.frames:
        rect = f'<rect class="frame" {_place(layout.frames[frame.id])} rx="8"/>'
        yield f"<g><title>{_text(frame.label)}</title>{rect}</g>"


def _frame_labels(scene: Scene, layout: Layout) -> Iterator[str]:
    for frame in scene.frames:
        r = layout.frames[frame.id]
        yield f'<text class="frame-label" x="{_n(r.x + 9)}" y="{_n(r.y + 16)}">{_text(frame.label)}</text>'


def _place(r: Rect) -> str:
    return f'x="{_n(r.x)}" y="{_n(r.y)}" width="{_n(r.width)}" height="{_n(r.height)}"'


def _edges(scene: Scene, layout: Layout) -> Iterator[str]:
    for edge in scene.edges:
        kind = "removed" if edge.state else "quantized" if edge.quantized else "float"
        yield (
            f'<path class="edge {kind}" data-start={_attribute(edge.start)} data-end={_attribute(edge.end)} '
            f'marker-end="url(#tip-{kind})" d="{_path(layout.routes[edge.start, edge.end])}">'
            f"<title>{_text(edge.tip)}</title></path>"
        )


def _path(points: Sequence[Point]) -> str:
    """Straight down the rows, an S-curve wherever x changes from one row to the next."""
    x, y = points[0]
    parts = [f"M{_n(x)} {_n(y)}"]
    for next_x, next_y in points[1:]:
        if abs(next_x - x) < 0.5:
            parts.append(f"V{_n(next_y)}")
            y = next_y
            continue
        middle = (y + next_y) / 2
        parts.append(f"C{_n(x)} {_n(middle)} {_n(next_x)} {_n(middle)} {_n(next_x)} {_n(next_y)}")
        x, y = next_x, next_y
    return "".join(parts)


def _node(box: Box, r: Rect) -> str:
    classes = ["node", box.state, "ends" if box.kind != "call" else "", "quantized" if box.quantized else ""]
    badge = (
        f'<text class="badge" x="{_n(r.right - 12)}" y="{_n(r.y + 18)}">{BADGES[box.state]}</text>'
        if box.state
        else ""
    )
    rows = "".join(_line(line, r.x + BOX_PAD, r.y + 18 + i * LINE) for i, line in enumerate(box.lines))
    return (
        f'<g class="{" ".join(c for c in classes if c)}" data-name={_attribute(box.name)}>'
        f"<title>{_text(box.tip)}</title>"
        f'<rect class="card" {_place(r)} rx="5"/>'
        f'<rect class="stripe" x="{_n(r.x)}" y="{_n(r.y + 5)}" width="4" height="{_n(r.height - 10)}"/>'
        f"{rows}{badge}</g>"
    )


def _line(line: Line, x: float, y: float) -> str:
    return f'<text class="{line.role}" x="{_n(x)}" y="{_n(y)}">{_text(line.text)}</text>'
