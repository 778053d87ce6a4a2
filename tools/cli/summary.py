"""What a finished compile tells first; the rest is in its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxc.tools.cli.output import Result, columns, facts
from fxc.tools.cli.output import size as size_text

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact
    from fxc.compiler.artifacts import Artifacts

SHOWN = 3
"""Warnings, and notes of the emitter, that are printed; the report and the manifest have all."""
_WORDS = ("model", "target", "calibration", "accuracy", "kernels", "tools")


def told(artifact: Artifact, path: Path, warnings: tuple[str, ...], data: str | None) -> Result:
    """One bundle, for a person and as data; ``data`` says what it was calibrated with."""
    report, rows = artifact.report, summary_rows(artifact)
    document = {**_document(artifact, path), "calibration_data": data, "warnings": list(warnings)}
    if data is not None:
        rows = [("calibration", data), *rows[1:]]
    rows.append(("time", _time(artifact.timings)))
    rows += told_rows("note", artifact.manifest.get("notes", []), "the manifest")
    rows += warning_rows([_said(note) for note in _warnings(artifact)])
    head = f"{report['model']['name']} for {report['target']['name']} -> {path}"
    return Result(document, "\n".join([head, facts(rows), f"  {path / 'report.html'}"]))


def told_together(artifacts: Artifacts, path: Path, warnings: tuple[str, ...], data: str | None) -> Result:
    """Several bundles side by side."""
    document = {
        "artifacts": str(path),
        "calibration_data": data,
        "warnings": list(warnings),
        "targets": [_document(artifact, path / name) for name, artifact in artifacts.items()],
    }
    heads = (
        "target",
        "SQNR against float: file",
        "graph",
        "MACs on integers",
        "size",
        "of float",
        "left in float",
    )
    table = columns([_row(name, artifact) for name, artifact in artifacts.items()], heads)
    head = f"{artifacts.name} for {len(artifacts)} targets -> {path}"
    calibrated = facts([("calibration", data)]) if data else None
    said = [f"{name}: {_said(note)}" for name, a in artifacts.items() for note in _warnings(a)]
    lines = [head, calibrated, table, facts(warning_rows(said)), f"  {path / 'report.html'}"]
    return Result(document, "\n".join(line for line in lines if line))


def _document(artifact: Artifact, path: Path) -> dict[str, Any]:
    report = artifact.report
    return {
        "artifact": str(path),
        **{word: report.get(word) for word in _WORDS},
        "size": model_size(artifact),
        "float_tensors": report.get("float_tensors", []),
        "notes": _warnings(artifact),
    }


def warning_rows(said: list[str]) -> list[tuple[str, object]]:
    """The first few warnings, and how many more there are."""
    return told_rows("warning", said, "the report")


def told_rows(word: str, said: list[str], where: str) -> list[tuple[str, object]]:
    """The first few of what was said, and how many more there are ``where``."""
    rows: list[tuple[str, object]] = [(word, text) for text in said[:SHOWN]]
    more = len(said) - SHOWN
    return [*rows, ("", f"and {more} more in {where}")] if more > 0 else rows


def _warnings(artifact: Artifact) -> list[dict[str, Any]]:
    return [note for note in artifact.report.get("notes", []) if note.get("kind") == "warning"]


def _said(note: dict[str, Any]) -> str:
    """The layer in front, unless the sentence names it."""
    layer, text = note.get("layer"), str(note["text"])
    return f"{layer}: {text}" if layer and str(layer) not in text else text


def _row(name: str, artifact: Artifact) -> tuple[str, ...]:
    report, sizes = artifact.report, model_size(artifact)
    outputs, integer = report["accuracy"]["outputs"], report["target"]["precision"].startswith("int")
    share, ratio = report["kernels"].get("mac_coverage"), sizes["ratio"]
    return (
        name,
        _lowest(outputs, "file_db"),
        _lowest(outputs, "graph_db"),
        f"{share:.1%}" if integer and share is not None else "-",
        size_text(sizes["file_bytes"]),
        f"{ratio:.2f}" if ratio is not None else "-",
        str(len(report["float_tensors"])) if integer else "-",
    )


def _lowest(outputs: list[dict[str, Any]], word: str) -> str:
    known = [row[word] for row in outputs if row.get(word) is not None]
    return f"{min(known):.1f} dB" if known else "-"


def summary_rows(artifact: Artifact) -> list[tuple[str, object]]:
    """The report's main numbers, as rows of words; the first is the calibration's."""
    report = artifact.report
    calibrated, kernels = report.get("calibration") or {}, report.get("kernels") or {}
    accuracy, sizes = report.get("accuracy") or {}, model_size(artifact)
    rows: list[tuple[str, object]] = [("calibration", calibrated.get("said"))]
    rows += [("accuracy", _accuracy(row)) for row in accuracy.get("outputs", [])]
    rows.append(("", accuracy.get("how")))
    if kernels.get("integer") is not None and report["target"]["precision"] == "int8":
        share = kernels.get("mac_coverage")
        covered = f", {share:.1%} of multiply-accumulates in integers" if share is not None else ""
        planned = "; as the file asks: what the chip does is not known here" if kernels.get("planned") else ""
        rows.append(("kernels", f"{kernels['integer']} integer, {kernels['float']} float{covered}{planned}"))
    ratio = f", {sizes['ratio']:.2f} of the float weights" if sizes["ratio"] is not None else ""
    rows.append(("size", size_text(sizes["file_bytes"]) + ratio))
    left = report.get("float_tensors") or []
    rows.append(
        ("left in float", f"{len(left)} tensors, each with its reason in the report" if left else None)
    )
    return rows


def _time(timings: dict[str, Any]) -> str | None:
    total = sum((timings.get("stages") or {}).values())
    if not total:
        return None
    return f"{total:.1f} s, {timings.get('verify', 0.0) / total:.0%} of it checking every pass's promise"


def model_size(artifact: Artifact) -> dict[str, Any]:
    """Bytes of the main model file with all that belongs to it, of the float weights, and their ratio."""
    known = artifact.report.get("size") or {}
    files = known.get("files") or [artifact.manifest["model"]]
    emitted = sum(artifact.manifest["files"][name]["bytes"] for name in files)
    weights = known.get("float_weights_bytes")
    return {
        "file_bytes": emitted,
        "float_weights_bytes": weights,
        "ratio": emitted / weights if weights else None,
    }


def _accuracy(row: dict[str, Any]) -> str:
    file_db = row.get("sqnr_file_db", row.get("file_db"))
    graph_db = row.get("sqnr_graph_db", row.get("graph_db"))
    told = [f"{name} {db:.1f} dB" for name, db in (("file", file_db), ("graph", graph_db)) if db is not None]
    name = f"{row['name']} of {row['file']}" if row.get("file") else row["name"]
    return f"{name}: SQNR against float, {', '.join(told) or 'not measured'}"
