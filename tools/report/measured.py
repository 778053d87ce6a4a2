"""Measurements that are not part of a compile (the demo's, a board's), as a block at the top of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxc.tools.report.charts import legend, stacked
from fxc.tools.report.markup import Content, Markup, join, tag

_GRAY_LEVELS = 16
_STAGE_COLOURS = 6


@dataclass(frozen=True)
class Row:
    """One measured thing, as the words a reader sees.

    Attributes:
        what: its name.
        before, after: of the float model and of the compiled one.
        change: between the two.
        bar: what was asked for, if anything, and ``held`` whether it was reached.
    """

    what: str
    before: str = ""
    after: str = ""
    change: str = ""
    bar: str = ""
    held: bool | None = None


@dataclass(frozen=True)
class Example:
    """One grey input, as rows of integers 0 to 16, with what is to be said about it."""

    pixels: tuple[tuple[int, ...], ...]
    said: str


@dataclass(frozen=True)
class Measured:
    """A block of measurements.

    Attributes:
        title: names the data.
        how: one sentence on how, where and with what settings they were taken.
        rows: the table.
        stages: seconds by stage of the compile, drawn as a bar.
        examples: pictures below the table, under ``examples_title``.
    """

    title: str
    how: str
    rows: tuple[Row, ...]
    stages: Mapping[str, float] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    examples_title: str = ""


def measurements(block: Measured) -> Markup:
    """The block as a section of the page."""
    heads = ("", "float", "compiled", "change", "bar", "")
    head = tag("tr", *(tag("th", h, scope="col") for h in heads))
    table = tag("table", tag("thead", head), tag("tbody", *map(_row, block.rows)))
    return tag(
        "section",
        tag("h2", block.title),
        tag("div", table, class_="scroll"),
        tag("p", block.how, class_="how"),
        _stages(block.stages) if block.stages else None,
        _examples(block) if block.examples else None,
    )


def _row(row: Row) -> Markup:
    mark: Content = None
    if row.held is not None:
        words = ("✓ held", "int") if row.held else ("✗ missed", "bad")
        mark = tag("span", words[0], class_=f"chip {words[1]}")
    cells = (tag("strong", row.what), row.before, row.after, row.change, row.bar, mark)
    return tag("tr", *(tag("td", cell) for cell in cells))


def _stages(stages: Mapping[str, float]) -> Markup:
    whole = sum(stages.values())
    slow_first = sorted(stages.items(), key=lambda item: -item[1])
    kinds = {name: f"s{min(i, _STAGE_COLOURS - 1)}" for i, (name, _) in enumerate(slow_first)}
    named = [(kinds[name], f"{name} {seconds:.2f} s") for name, seconds in stages.items()]
    parts = [(kinds[name], seconds) for name, seconds in stages.items()]
    return join(tag("h3", f"Compile time: {whole:.1f} s", class_="gap"), stacked(parts), legend(*named))


def _examples(block: Measured) -> Markup:
    figures = [tag("figure", _picture(e.pixels), tag("figcaption", e.said)) for e in block.examples]
    return join(tag("h3", block.examples_title, class_="gap"), tag("div", *figures, class_="gallery"))


def _picture(pixels: tuple[tuple[int, ...], ...]) -> Markup:
    squares = [
        tag("rect", x=x, y=y, width=1, height=1, opacity=f"{min(level, _GRAY_LEVELS) / _GRAY_LEVELS:.2f}")
        for y, line in enumerate(pixels)
        for x, level in enumerate(line)
        if level
    ]
    return tag("svg", *squares, viewBox=f"0 0 {len(pixels[0])} {len(pixels)}", class_="pixels")
