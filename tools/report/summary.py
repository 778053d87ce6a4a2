"""The head of the report: what was compiled, whether it holds, and what deserves a look first."""

from __future__ import annotations

from typing import Any

from fxc.tools.report.charts import legend, stacked
from fxc.tools.report.markup import Content, Markup, join, tag
from fxc.tools.report.numbers import count, decibel, percent, size

Report = dict[str, Any]


def header(report: Report) -> Markup:
    """Model, target, and one sentence that says how it went."""
    model, target = report["model"], report["target"]
    title = join(tag("span", model["name"]), tag("span", " → ", class_="arrow"), tag("span", target["name"]))
    about = f"{count(model.get('parameters'))} parameters · {count(model.get('macs'))} multiply-accumulates"
    return tag(
        "header",
        tag("p", "fxc compile report", class_="kicker"),
        tag("h1", title),
        tag("p", f"{about} · {target['device']} · {target['precision']}", class_="about"),
        _verdict(report),
        calibration(report),
    )


def quantized(report: Report) -> bool:
    """Whether the target is an integer one: then, and only then, there is a calibration."""
    return report.get("calibration") is not None


def warnings(report: Report) -> list[dict[str, Any]]:
    """The notes that ask for attention."""
    return [note for note in report["notes"] if note["kind"] == "warning"]


def worst_db(report: Report) -> float | None:
    """The lowest SQNR of the emitted file over the outputs; ``None`` if no output could be judged."""
    known = [row["file_db"] for row in report["accuracy"]["outputs"] if row.get("file_db") is not None]
    return min(known, default=None)


def _verdict(report: Report) -> Markup:
    found = warnings(report)
    if not found:
        text = "No warnings. The file was read back from disk and executed on the host that compiled it."
        return tag("p", tag("strong", "Compiled. "), text, class_="verdict good")
    items = [tag("li", _where(note), note["text"]) for note in found]
    head = f"Compiled, with {len(found)} warning{'s' if len(found) > 1 else ''}. "
    return tag("div", tag("strong", head), "Read this first:", tag("ul", *items), class_="verdict warn")


def _where(note: dict[str, Any]) -> Markup:
    return tag("code", note["layer"], class_="where") if note.get("layer") else Markup("")


def calibration(report: Report) -> Markup:
    """What the ranges come from; nothing for float targets."""
    found = report.get("calibration")
    if found is None:
        return Markup("")
    images = found.get("images")
    if found["source"] == "synthesised":
        body: list[Content] = [
            tag("strong", "Calibrated on synthesised inputs, not on data. "),
            f"{found['said']} ({images} of them). Ranges from real inputs are usually tighter: "
            "give calibration data before judging accuracy.",
        ]
        return tag("p", *body, class_="verdict note")
    said = f"Calibrated on {images} inputs of the user's data."
    return tag("p", said, class_="verdict plain")


def tiles(report: Report) -> Markup:
    """The four numbers that a reader looks for, each with how it was got."""
    return tag("section", *_accuracy_tiles(report), _kernels_tile(report), _size_tile(report), class_="tiles")


def _tile(name: str, value: str, how: str, extra: Content = None) -> Markup:
    return tag(
        "div",
        tag("h3", name),
        tag("p", value, class_="value"),
        extra,
        tag("p", how, class_="how"),
        class_="tile",
    )


def _accuracy_tiles(report: Report) -> list[Markup]:
    outputs = report["accuracy"]["outputs"]
    samples = report["accuracy"].get("samples")
    lost = max((row.get("lost_db") or 0.0 for row in outputs), default=0.0)
    count, files = len({row["name"] for row in outputs}), len({row.get("file") for row in outputs})
    of = (
        f"{count} outputs"
        if files < 2
        else f"{files} files"
        if count == 1
        else f"{count} outputs, {files} files"
    )
    name = "Output SQNR" if len(outputs) == 1 else f"Lowest SQNR of {of}"
    against = "no worse than its graph" if lost <= 0 else f"{lost:.2f} dB below its graph"
    first = _tile(name, decibel(worst_db(report)), f"measured here, {samples} samples; the file is {against}")
    return [first]


def _kernels_tile(report: Report) -> Markup:
    kernels = report["kernels"]
    covered = kernels.get("mac_coverage")
    if not quantized(report):
        return _tile("Kernels", str(kernels["float"]), f"float kernels, {_teller(kernels)}")
    picture = join(
        stacked([("int", covered or 0.0), ("float", 1.0 - (covered or 0.0))]),
        legend(("int", f"{kernels['integer']} integer"), ("float", f"{kernels['float']} float kernels")),
    )
    how = "of the multiply-accumulates, " + _teller(kernels)
    return _tile("Runs on integers", percent(covered), how, picture)


def _teller(kernels: dict[str, Any]) -> str:
    if kernels.get("planned"):
        return "as the file asks; what the chip does with it is not known here"
    return "as the runtime, or the chip's compiler, tells of its kernels"


def _size_tile(report: Report) -> Markup:
    sizes = report["size"]
    before, after = sizes.get("float_weights_bytes"), sizes.get("model_bytes")
    if after is None:
        return _tile(
            "Float weights",
            size(before),
            "counted in the captured model; the file's size is in manifest.json",
        )
    ratio = after / before if before else None
    shown = "–" if ratio is None else f"{ratio:.2f}×"
    how = f"{size(before)} of float weights, {size(after)} on disk: {', '.join(sizes.get('files', []))}"
    return _tile(
        "File size", shown, how, stacked([("int", ratio or 0.0), ("none", max(0.0, 1.0 - (ratio or 0.0)))])
    )
