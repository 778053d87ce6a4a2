"""How a whole compile, proofs and report included, grows with depth: chains of conv, batch norm, ReLU. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc.stages import STAGES
from fxc.tools.bench import child
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.table import Table, failure, verdict

MODELS = ("300", "3000")
"""Numbers of layers."""
LAST = "quantize"
"""The stage up to which the bar counts: Q/DQ is in the graph."""
BAR = 1.5


def run(plan: Plan, log: Path) -> dict[str, Any]:
    """Measure one chain."""
    return child.measure("fxc.tools.bench.job_growth:measure", plan, log)


def tables(plans: Mapping[str, Plan], rows: Mapping[str, Any]) -> list[Table]:
    """Seconds and milliseconds per layer, by stage."""
    heads = [
        "layers",
        "torch.export alone s",
        "capture to Q/DQ s",
        "ms per layer",
        "whole s",
        "ms per layer",
        "every stage s",
    ]
    lines = [_line(name, row) for name, row in rows.items()]
    note = "Wall seconds of one compile after a small one that warms up. Capture includes an export like the one stated apart."
    return [Table("Growth with depth", heads, lines, [note, *_judged(rows)])]


def per_layer(row: Mapping[str, Any], last: str = LAST) -> float:
    """Seconds per layer from capture to Q/DQ, or to another stage."""
    return _until(row, last) / int(row["layers"])


def _until(row: Mapping[str, Any], last: str) -> float:
    names = STAGES[: STAGES.index(last) + 1]
    return float(sum(row["stages"].get(name, 0.0) for name in names))


def _line(name: str, row: Mapping[str, Any]) -> list[str]:
    if "failed" in row:
        return [name, failure(row, name), *["–"] * 5]
    stages = " · ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages"].items())
    return [
        name,
        f"{row['export']:.2f}",
        *(
            text
            for last in (LAST, STAGES[-1])
            for text in (f"{_until(row, last):.2f}", f"{1000 * per_layer(row, last):.1f}")
        ),
        stages,
    ]


def _judged(rows: Mapping[str, Any]) -> list[str]:
    done = sorted((row for row in rows.values() if "failed" not in row), key=lambda row: int(row["layers"]))
    if len(done) < 2:
        return []
    few, many = done[0], done[-1]
    what = f"time per layer, {many['layers']} ÷ {few['layers']}"
    return [
        verdict(f"{what}, capture to Q/DQ", per_layer(many) / per_layer(few), BAR),
        f"{what}, whole compile: {per_layer(many, STAGES[-1]) / per_layer(few, STAGES[-1]):.2f}",
    ]
