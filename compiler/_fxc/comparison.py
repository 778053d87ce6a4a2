"""One report for several targets, made from the reports of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 1

Report = Mapping[str, Any]


def compare_reports(reports: Mapping[str, Report]) -> dict[str, Any]:
    """What ``report.json`` beside several bundles says: every target's numbers, and every layer's over the targets.

    Args:
        reports: of one model, by target name, in the user's order.
    """
    first = next(iter(reports.values()))
    return {
        "format": FORMAT,
        "model": first["model"],
        "calibration": next((r["calibration"] for r in reports.values() if r["calibration"]), None),
        "targets": [_target(report) for report in reports.values()],
        "layers": _layers(reports),
    }


def _target(report: Report) -> dict[str, Any]:
    words = ("target", "accuracy", "kernels", "size", "float_tensors", "tools")
    warnings = [note for note in report["notes"] if note["kind"] == "warning"]
    return {**{word: report[word] for word in words}, "warnings": warnings}


def _layers(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    """One row per layer that any target has, in the order of the first target that has it."""
    rows: dict[str, dict[str, Any]] = {}
    for name, report in reports.items():
        for layer in report["layers"]:
            row = rows.setdefault(
                layer["layer"],
                {"layer": layer["layer"], "op": layer["op"], "macs": layer["macs"], "targets": {}},
            )
            row["targets"][name] = {word: layer[word] for word in ("quantized", "sqnr_db", "reason")}
    return list(rows.values())
