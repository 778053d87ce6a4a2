"""int8 latency of one image: our file against NNCF's, reshaped to static shapes, and ONNX Runtime's. Torch-free."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from fxc.tools.bench import child
from fxc.tools.bench.contestants import title
from fxc.tools.bench.figures import geomean, ratio, rotated
from fxc.tools.bench.plan import DEFAULT, Plan
from fxc.tools.bench.table import Table, failure, number, verdict

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "vit_b_16")
MEAN_BAR, WORST_BAR = 1.0, 1.1
"""fxc / NNCF in OpenVINO: the geometric mean, and the worst model."""

PROCESSES = 6
"""Over which the rounds are spread, each loading the files in another order: where a process's buffers happen to lie moves
its times by several percent."""


def run(plan: Plan, log: Path) -> dict[str, Any]:
    """Measure one model: ``{"built": {contestant: file}, "times": {runtime: {contestant: milliseconds}}}``."""
    with tempfile.TemporaryDirectory(prefix="fxc-bench-") as folder:
        built = child.measure("fxc.tools.bench.job_latency:build", plan, log, into=folder)
        if "failed" in built:
            return built
        files = {name: entry for name, entry in built.items() if "file" in entry}
        parts = []
        for turn, part in enumerate(_parts(plan)):
            order = json.dumps({name: files[name] for name in rotated(list(files), turn)})
            parts.append(child.measure("fxc.tools.bench.job_latency:measure", part, log, files=order))
    return {"built": built, "times": joined(parts)}


def _parts(plan: Plan) -> list[Plan]:
    """The plan's rounds, shared out to processes."""
    count = min(PROCESSES, plan.rounds)
    return [replace(plan, rounds=len(range(index, plan.rounds, count))) for index in range(count)]


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One process's times behind another's; the first failure instead, of a process or of a contestant."""
    first = parts[0]
    if failed := next((part for part in parts if "failed" in part), None):
        return failed
    if all(not isinstance(value, Mapping) for value in first.values()):
        return {clock: [t for part in parts for t in part[clock]] for clock in first}
    return {key: joined([part[key] for part in parts]) for key in first}


def tables(plans: Mapping[str, Plan], rows: Mapping[str, Any]) -> list[Table]:
    """One table per runtime and hint."""
    plan = next(iter(plans.values()))
    found = dict.fromkeys(w for row in rows.values() for w in row.get("times", {}) if w != "failed")
    return [_table(plan, rows, where) for where in sorted(found, reverse=True)] or [_table(plan, rows, "")]


def ratios(rows: Mapping[str, Any], where: str, peer: str, clock: str = "wall") -> dict[str, float]:
    """fxc / peer by model in one runtime."""
    found = {}
    for model, row in rows.items():
        ours, theirs = (row.get("times", {}).get(where, {}).get(name, {}) for name in (DEFAULT, peer))
        if ours.get(clock) and theirs.get(clock):
            found[model] = ratio(ours[clock], theirs[clock])
    return found


def _table(plan: Plan, rows: Mapping[str, Any], where: str) -> Table:
    others = [n for n in plan.contestants if n != DEFAULT]
    heads = ["model", *(f"{title(n)} wall / CPU ms" for n in plan.contestants)]
    heads += [f"fxc ÷ {title(n)} wall / CPU" for n in others]
    lines = [_line(plan, rows, where, model, others) for model in rows]
    means = [" / ".join(_mean(rows, where, n, clock) for clock in ("wall", "cpu")) for n in others]
    lines.append(["geometric mean", *[""] * len(plan.contestants), *means])
    note = (
        f"Batch 1, {plan.resolution}x{plan.resolution}, static shapes. Medians of {plan.rounds} interleaved rounds in "
        f"{min(PROCESSES, plan.rounds)} processes, each the median of {plan.calls} calls; ratios are medians of each round's own ratio."
    )
    return Table(f"Latency in {where}", heads, lines, [note, *_judged(rows, where)])


def _line(plan: Plan, rows: Mapping[str, Any], where: str, model: str, others: list[str]) -> list[str]:
    cells = [_cell(rows[model], where, name) for name in plan.contestants]
    compared = [
        " / ".join(number(ratios(rows, where, n, clock).get(model)) for clock in ("wall", "cpu"))
        for n in others
    ]
    return [model, *cells, *compared]


def _cell(row: Mapping[str, Any], where: str, name: str) -> str:
    times = row.get("times", {}).get(where, {}).get(name, {})
    if times.get("wall"):
        return f"{median(times['wall']):.2f} / {median(times['cpu']):.2f}"
    for source in (row, row.get("built", {}), row.get("times", {}), row.get("times", {}).get(where, {})):
        if (text := failure(source, name)) != "–":
            return text
    return "–"


def _mean(rows: Mapping[str, Any], where: str, peer: str, clock: str) -> str:
    return number(geomean(list(ratios(rows, where, peer, clock).values())))


def _judged(rows: Mapping[str, Any], where: str) -> list[str]:
    against = ratios(rows, where, "nncf")
    mean = geomean(list(against.values()))
    if mean is None:
        return []
    worst = max(against, key=lambda model: against[model])
    return [
        verdict("fxc ÷ NNCF, geometric mean", mean, MEAN_BAR),
        verdict(f"fxc ÷ NNCF, the worst ({worst})", against[worst], WORST_BAR),
    ]
