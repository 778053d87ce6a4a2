"""The page over the bundles of several targets: each target's numbers in one table, each layer's over all targets."""

from __future__ import annotations

from typing import Any

from fxc.tools.report import summary
from fxc.tools.report.markup import Content, Markup, join, tag
from fxc.tools.report.numbers import ABSENT, count, decibel, percent, size
from fxc.tools.report.page import page
from fxc.tools.report.sections import cell, section, sortable, table

Report = dict[str, Any]


def render_comparison(report: Report) -> str:
    """One self-contained HTML page over several targets; its links lead to each bundle's own report.

    Args:
        report: what ``report.json`` beside the bundles holds (see :mod:`fxc.comparison`).
    """
    body = join(_header(report), _targets(report), _warnings(report), _layers(report))
    return page(f"{report['model']['name']} → {len(report['targets'])} targets · fxc", body)


def _header(report: Report) -> Markup:
    model, names = report["model"], [t["target"]["name"] for t in report["targets"]]
    title = join(
        tag("span", model["name"]), tag("span", " → ", class_="arrow"), tag("span", f"{len(names)} targets")
    )
    about = f"{count(model.get('parameters'))} parameters · {count(model.get('macs'))} multiply-accumulates"
    return tag(
        "header",
        tag("p", "fxc compile report", class_="kicker"),
        tag("h1", title),
        tag("p", f"{about} · one capture, one calibration", class_="about"),
        summary.calibration(report),
    )


def _targets(report: Report) -> Markup:
    rows = [_target(row) for row in report["targets"]]
    heads = ["target", "executed here by", "lowest SQNR: graph", "file", "MACs on integers", "file size"]
    heads += ["of the float weights", "left in float", "warnings"]
    how = "SQNR against the float program, on the same samples for every target; the file was read back from disk."
    return section("Targets", table(heads, rows), tag("p", how, class_="how"))


def _target(row: dict[str, Any]) -> list[Content]:
    name, outputs, sizes = row["target"]["name"], row["accuracy"]["outputs"], row["size"]
    integer = row["target"]["precision"].startswith("int")
    ratio = sizes.get("ratio")
    return [
        tag("a", tag("code", name), href=f"{name}/report.html"),
        row["tools"].get("runtime", ABSENT),
        decibel(_lowest(outputs, "graph_db")),
        decibel(_lowest(outputs, "file_db")),
        percent(row["kernels"].get("mac_coverage")) if integer else ABSENT,
        size(sizes.get("model_bytes")),
        ABSENT if ratio is None else f"{ratio:.2f}×",
        len(row["float_tensors"]) if integer else ABSENT,
        len(row["warnings"]),
    ]


def _lowest(outputs: list[dict[str, Any]], word: str) -> float | None:
    return min((row[word] for row in outputs if row.get(word) is not None), default=None)


def _warnings(report: Report) -> Markup:
    rows: list[list[Content]] = [
        [
            tag("code", t["target"]["name"]),
            tag("code", note["layer"]) if note.get("layer") else "",
            note["text"],
        ]
        for t in report["targets"]
        for note in t["warnings"]
    ]
    return section("Warnings", table(["target", "layer", "what"], rows)) if rows else Markup("")


def _layers(report: Report) -> Markup:
    """Where the targets differ: what runs a layer, and how far from float its result is."""
    names = [t["target"]["name"] for t in report["targets"] if t["target"]["precision"].startswith("int")]
    rows = report["layers"]
    if not names or not rows:
        return Markup("")
    whole = sum(row.get("macs") or 0 for row in rows) or 1
    body = []
    for index, row in enumerate(rows, 1):
        share = (row.get("macs") or 0) / whole
        cells = [
            cell(index, index, "num"),
            cell(tag("code", row["layer"]), row["layer"]),
            cell(row["op"], row["op"]),
        ]
        cells += [cell(percent(share), share, "num"), *(_layer(row["targets"].get(name)) for name in names)]
        body.append(tag("tr", *cells))
    box = tag("input", id="filter", type="search", placeholder="filter layers", aria_label="filter layers")
    heads = ["#", "layer", "operator", "share of MACs", *names]
    return section(f"Layers ({len(rows)})", box, sortable(heads, body))


def _layer(found: dict[str, Any] | None) -> Markup:
    if found is None:
        return cell(ABSENT, -1)
    chip = (
        tag("span", "int8", class_="chip int")
        if found["quantized"]
        else tag("span", "float", class_="chip float")
    )
    noise = found["sqnr_db"]
    return cell(join(chip, " ", decibel(noise)), -1 if noise is None else noise)
