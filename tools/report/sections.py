"""The tables of the report, one function each; a section with nothing to say is empty."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from fxc.tools.report.charts import bar, legend, sqnr_by_layer
from fxc.tools.report.markup import Content, Markup, join, tag
from fxc.tools.report.numbers import ABSENT, decibel, percent, scientific
from fxc.tools.report.summary import Report, quantized

_MANY = 12
"""Longer lists start folded."""


def accuracy(report: Report) -> Markup:
    """SQNR per output, of the graph and of the file, and how each number was got."""
    found = report["accuracy"]
    rows = [
        [
            join(tag("code", row["name"]), f" of {row['file']}" if row.get("file") else None),
            decibel(row.get("graph_db")),
            decibel(row.get("file_db")),
            f"{row.get('lost_db') or 0.0:+.2f} dB",
        ]
        for row in found["outputs"]
    ]
    how = [
        tag(
            "li",
            f"SQNR: {found['how']}, on {found.get('samples')} samples. Lost below 0: the file is the closer one.",
        ),
        tag("li", "Integer and float kernels: counted in the graph the runtime compiled here."),
        tag("li", "Multiply-accumulates and weights: counted in the captured graph."),
        tag("li", tag("strong", "Not measured by a compile: "), "top-1, speed and memory."),
    ]
    graph = "quantized graph" if quantized(report) else "optimized graph"
    heads = ["output", graph, "file, executed here", "lost between the two"]
    return section("Accuracy at the outputs", table(heads, rows), tag("ul", *how, class_="how"))


def layers(report: Report) -> Markup:
    """Every layer that multiplies: its share of the work, what runs it, and how far from float its result is."""
    rows = report["layers"]
    if not rows:
        return Markup("")
    whole = sum(row.get("macs") or 0 for row in rows) or 1
    top = max([row["sqnr_db"] for row in rows if row.get("sqnr_db") is not None] or [1.0])
    integer = quantized(report)
    body = [_layer_row(i, row, (row.get("macs") or 0) / whole, top, integer) for i, row in enumerate(rows, 1)]
    heads = ["#", "layer", "operator", "share of MACs"]
    heads += ["runs as", "input scale", "SQNR against float"] if integer else []
    chart = join(
        sqnr_by_layer(rows), legend(("int", "int8"), ("float", "left in float")) if integer else None
    )
    box = tag("input", id="filter", type="search", placeholder="filter layers", aria_label="filter layers")
    return section(f"Layers ({len(rows)})", chart, box, sortable(heads, body))


def _layer_row(index: int, row: dict[str, Any], share: float, top: float, integer: bool) -> Markup:
    cells = [
        cell(index, index, "num"),
        cell(tag("code", row["layer"]), row["layer"]),
        cell(row["op"], row["op"]),
        cell(bar(share, "work", percent(share)), row.get("macs") or 0),
    ]
    if integer:
        noise = row.get("sqnr_db")
        cells += [
            cell(_runs_as(row), "int8" if row["quantized"] else "float"),
            cell(_scale(row), row.get("scale") or 0, "num"),
            cell(_noise(row, top), -1 if noise is None else noise),
        ]
    return tag("tr", *cells)


def _runs_as(row: dict[str, Any]) -> Markup:
    if row["quantized"]:
        return tag("span", "int8", class_="chip int")
    why = tag("span", row.get("reason") or "no reason recorded", class_="why")
    return join(tag("span", "float", class_="chip float"), why)


def _scale(row: dict[str, Any]) -> str:
    if row.get("scale") is None:
        return ABSENT
    zero = f" + {row['zero_point']}" if row.get("zero_point") else ""
    return f"{row['scale']:.3g}{zero}  {row.get('dtype') or ''}".rstrip()


def _noise(row: dict[str, Any], top: float) -> Content:
    noise = row.get("sqnr_db")
    return (
        ABSENT
        if noise is None
        else bar(noise / max(top, 1.0), "int" if row["quantized"] else "float", decibel(noise))
    )


def float_tensors(report: Report) -> Markup:
    """Tensors left in float, grouped by the reason."""
    if not quantized(report):
        return Markup("")
    found = report["float_tensors"]
    if not found:
        return section("Tensors left in float", tag("p", "None: every tensor with a rule is on integers."))
    groups = _grouped(found, "reason")
    body = [_group(reason, [row["layer"] for row in rows]) for reason, rows in groups]
    return section(f"Tensors left in float ({len(found)})", *body)


def passes(report: Report) -> Markup:
    """What each pass did, and how far the program's numbers moved."""
    rows = [
        [
            tag("code", row["pass"]),
            "changed the graph" if row["modified"] else "found nothing to do",
            scientific(row.get("drift")),
        ]
        for row in report["passes"]
    ]
    heads = ["pass", "did", "drift"]
    why = "Drift is the relative error, ‖after − before‖ / ‖before‖, on the sample inputs; – where it was not checked."
    return section("Passes", table(heads, rows), tag("p", why, class_="how"))


def notes(report: Report) -> Markup:
    """What capture and the passes say, and the rules that nearly applied."""
    said = [n for n in report["notes"] if n["kind"] not in ("warning", "declined")]
    declined = [n for n in report["notes"] if n["kind"] == "declined"]
    parts = []
    if said:
        items = [tag("li", _by(n), n["text"], _layer_of(n)) for n in said]
        parts.append(section("Notes", tag("ul", *items)))
    if declined:
        named = [{**n, "text": f"{n.get('by') or 'a rule'}: {n['text']}"} for n in declined]
        groups = [_group(text, [n.get("layer") for n in rows]) for text, rows in _grouped(named, "text")]
        parts.append(section(f"Near misses: rules that declined ({len(declined)})", *groups))
    return join(*parts)


def interface(report: Report) -> Markup:
    """Inputs and outputs, kernels by the runtime's own words, and the versions of every tool."""
    model, kernels = report["model"], report["kernels"]
    ends = [
        [side, tag("code", row["name"]), f"{row['dtype']}[{', '.join(map(str, row['shape']))}]"]
        for side in ("inputs", "outputs")
        for row in model[side]
    ]
    by = kernels.get("by_implementation") or {}
    sections = (
        section("Inputs and outputs", table(["", "name", "type"], [[s[:-1], n, t] for s, n, t in ends])),
        section("Kernels", table(["kernel", "how many"], [[tag("code", k), n] for k, n in by.items()])),
        section("Made with", table(["tool", "version"], [[k, v] for k, v in report["tools"].items()])),
    )
    return tag("div", *sections, class_="pair")


def _grouped(rows: list[dict[str, Any]], key: str) -> list[tuple[str, list[dict[str, Any]]]]:
    ordered = sorted(rows, key=lambda row: str(row[key]))
    groups = [(name, list(found)) for name, found in groupby(ordered, key=lambda row: str(row[key]))]
    return sorted(groups, key=lambda group: (-len(group[1]), group[0]))


def _group(reason: str, names: list[str | None]) -> Markup:
    known = [tag("code", name) for name in names if name]
    head = tag("summary", tag("span", len(names), class_="count"), reason)
    return tag("details", head, tag("p", *known, class_="names"), open=len(names) <= _MANY)


def _by(note: dict[str, Any]) -> Markup:
    return tag("span", note["by"], class_="chip plain") if note.get("by") else Markup("")


def _layer_of(note: dict[str, Any]) -> Markup:
    return join(" ", tag("code", note["layer"])) if note.get("layer") else Markup("")


def section(title: str, *content: Content) -> Markup:
    """A heading and what is under it."""
    return tag("section", tag("h2", title), *content)


def table(heads: Sequence[str], rows: Sequence[Sequence[Content]]) -> Markup:
    """A plain table."""
    head = tag("tr", *(tag("th", h, scope="col") for h in heads))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def sortable(heads: list[str], rows: list[Markup]) -> Markup:
    """The table of layers, which the page's script filters, and sorts by a click on a head."""
    head = tag("tr", *(tag("th", tag("button", h, type="button"), scope="col") for h in heads))
    whole = tag("table", tag("thead", head), tag("tbody", *rows), id="layers")
    return tag("div", whole, class_="scroll tall")


def cell(content: Content, order: Content, class_: str | None = None) -> Markup:
    """A cell of :func:`sortable`; ``order`` is what it is sorted by."""
    return tag("td", content, data_v=str(order), class_=class_)
