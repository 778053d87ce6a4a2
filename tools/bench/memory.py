"""Peak memory of a compile, each path in a process of its own. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc.tools.bench import child
from fxc.tools.bench.contestants import title
from fxc.tools.bench.plan import DEFAULT, Plan
from fxc.tools.bench.table import Table, failure

MODELS = ("vgg16", "regnet_y_32gf")
TIMES, REST = 3, 2e9
"""The bar: this many times the float32 weights, and so many bytes."""


def run(plan: Plan, log: Path) -> dict[str, Any]:
    """Measure one model: by contestant, bytes of weights, before and at the peak."""
    return {
        name: child.measure("fxc.tools.bench.job_memory:measure", plan, log, contestant=name)
        for name in plan.contestants
    }


def tables(plans: Mapping[str, Plan], rows: Mapping[str, Any]) -> list[Table]:
    """One table: the bar, and every path's peak."""
    plan = next(iter(plans.values()))
    heads = ["model", "float32 weights", "bar", *(f"{title(n)}: before → peak GB" for n in plan.contestants)]
    lines = [
        [model, *_weights(row), *(_peak(row, n) for n in plan.contestants)] for model, row in rows.items()
    ]
    note = (
        f"Resident memory of the whole process in GB (1e9 bytes): with the model and {plan.images} images before the path "
        f"starts, and at its peak. The bar is {TIMES} times the weights and {REST / 1e9:g} GB, of fxc's peak."
    )
    return [Table("Peak memory of a compile", heads, lines, [note, *_judged(rows)])]


def bar(weights: int) -> float:
    """Bytes that a compile may take."""
    return TIMES * weights + REST


def _weights(row: Mapping[str, Any]) -> tuple[str, str]:
    weights = next((found["weights"] for found in row.values() if "weights" in found), None)
    return ("–", "–") if weights is None else (f"{weights / 1e9:.2f}", f"{bar(weights) / 1e9:.2f}")


def _peak(row: Mapping[str, Any], name: str) -> str:
    found = row.get(name, {})
    return (
        f"{found['before'] / 1e9:.2f} → {found['peak'] / 1e9:.2f}" if "peak" in found else failure(row, name)
    )


def _judged(rows: Mapping[str, Any]) -> list[str]:
    found = {model: row[DEFAULT] for model, row in rows.items() if "peak" in row.get(DEFAULT, {})}
    over = [f"{m} {f['peak'] / 1e9:.2f} GB" for m, f in found.items() if f["peak"] > bar(f["weights"])]
    return (
        [f"{'✗' if over else '✓'} every peak within its bar{': but ' + ', '.join(over) if over else ''}"]
        if found
        else []
    )
