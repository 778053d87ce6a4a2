"""The two pictures of the report, as inline SVG: SQNR layer by layer, and bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fxc.tools.report.markup import Markup, join, tag
from fxc.tools.report.numbers import count, decibel

_WIDTH, _HEIGHT = 1080, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 26


def bar(fraction: float, kind: str, label: str) -> Markup:
    """A bar of ``fraction`` (0 to 1) of its cell's width, with its number as text beside it."""
    fill = tag("i", style=f"width:{100 * min(max(fraction, 0.0), 1.0):.2f}%")
    return tag("span", tag("b", fill, class_=f"bar {kind}"), tag("span", label), class_="barred")


def stacked(parts: list[tuple[str, float]]) -> Markup:
    """One horizontal bar cut into ``(kind, weight)`` parts; empty parts are left out."""
    whole = sum(weight for _, weight in parts) or 1.0
    pieces = [
        tag("i", class_=kind, style=f"width:{100 * weight / whole:.2f}%") for kind, weight in parts if weight
    ]
    return tag("b", *pieces, class_="stack")


@dataclass(frozen=True)
class _Axes:
    """Where layer ``i`` of ``layers`` and ``decibels`` up to ``top`` lie on the picture."""

    layers: int
    top: float

    def x(self, index: int) -> float:
        return _LEFT + (index + 0.5) * (_WIDTH - _LEFT - _RIGHT) / max(1, self.layers)

    def y(self, decibels: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        return _TOP + height * (1 - min(max(decibels, 0.0), self.top) / self.top)


def sqnr_by_layer(layers: list[dict[str, Any]]) -> Markup:
    """One stem per layer in the order of execution, as high as its SQNR, its head as large as its share of the work.

    Returns:
        Nothing if no layer's SQNR is known.
    """
    known = [row["sqnr_db"] for row in layers if row.get("sqnr_db") is not None]
    if not known:
        return Markup("")
    axes = _Axes(len(layers), top=10 * max(4, -(-int(min(max(known), 60)) // 10)))
    whole = max((row.get("macs") or 0 for row in layers), default=0) or 1
    stems = [
        _stem(axes, i, row, (row.get("macs") or 0) / whole)
        for i, row in enumerate(layers)
        if row.get("sqnr_db") is not None
    ]
    return tag(
        "svg",
        *_grid(axes),
        *stems,
        tag("text", "layers in order of execution", x=_LEFT, y=_HEIGHT - 6),
        tag("text", "dB", x=_LEFT - 8, y=_HEIGHT - 6, class_="tick"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label="SQNR of every layer, in order of execution",
    )


def _grid(axes: _Axes) -> list[Markup]:
    lines = []
    for level in range(0, int(axes.top) + 1, 10):
        y = f"{axes.y(level):.1f}"
        lines.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(tag("text", level, x=_LEFT - 8, y=f"{axes.y(level) + 4:.1f}", class_="tick"))
    return lines


def _stem(axes: _Axes, index: int, row: dict[str, Any], share: float) -> Markup:
    x, y = f"{axes.x(index):.1f}", f"{axes.y(row['sqnr_db']):.1f}"
    title = f"{row['layer']}: {decibel(row['sqnr_db'])}, {count(row.get('macs'))} MACs"
    return tag(
        "g",
        tag("title", title),
        tag("line", x1=x, x2=x, y1=f"{axes.y(0):.1f}", y2=y),
        tag("circle", cx=x, cy=y, r=f"{2.5 + 4.5 * share**0.5:.1f}"),
        class_="stem int" if row.get("quantized") else "stem float",
    )


def legend(*entries: tuple[str, str]) -> Markup:
    """``(kind, words)`` pairs, each behind a small square in the kind's colour."""
    return tag(
        "p", *(join(tag("i", class_=f"key {kind}"), words, "  ") for kind, words in entries), class_="legend"
    )
