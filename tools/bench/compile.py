"""Compile time: fxc against the peers, warm and cold, with the floor beside it. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from fxc.tools.bench.child import measure
from fxc.tools.bench.contestants import title
from fxc.tools.bench.figures import geomean, ratio, rotated
from fxc.tools.bench.plan import DEFAULT, Plan
from fxc.tools.bench.table import Table, failure, number, verdict

MODELS = ("resnet18", "resnet50", "mobilenet_v2")
BAR = 0.4
"""Geometric mean of fxc / ORT's path, warm."""
FLOOR = "floor"


def run(plan: Plan, log: Path) -> dict[str, Any]:
    """Measure one model: ``{"warm": {contestant: times}, "cold": {contestant: {"wall": […], …}}}``."""
    warm = measure("fxc.tools.bench.job_compile:warm", plan, log)
    cold: dict[str, Any] = {name: {"wall": [], "cpu": []} for name in plan.contestants}
    for turn in range(plan.cold):
        for name in rotated(plan.contestants, turn):
            found = measure("fxc.tools.bench.job_compile:cold", plan, log, contestant=name)
            if "failed" in found:
                cold[name] = found
            elif "failed" not in cold[name]:
                for clock in ("wall", "cpu"):
                    cold[name][clock] += found[clock]
    return {"warm": warm, "cold": cold}


def tables(plans: Mapping[str, Plan], rows: Mapping[str, Any]) -> list[Table]:
    """Warm totals and ratios, cold totals, and every path's own stages."""
    plan = next(iter(plans.values()))
    return [_warm(plan, rows), _cold(plan, rows), _stages(plan, rows)]


def ratios(rows: Mapping[str, Any], peer: str, clock: str = "wall") -> dict[str, float]:
    """fxc / peer by model, over the warm rounds in which both ran."""
    found = {}
    for model, row in rows.items():
        ours, theirs = (row.get("warm", {}).get(name, {}) for name in (DEFAULT, peer))
        if ours.get(clock) and theirs.get(clock):
            found[model] = ratio(ours[clock], theirs[clock])
    return found


def _warm(plan: Plan, rows: Mapping[str, Any]) -> Table:
    names = (FLOOR, *plan.contestants)
    peers = tuple(n for n in plan.contestants if n != DEFAULT)
    heads = ["model", *(f"{_title(n)} wall / CPU s" for n in names)]
    heads += [f"fxc ÷ {title(p)} wall / CPU" for p in peers]
    lines = [
        [model, *(_pair(row.get("warm", {}), n) for n in names), *(_ratio(rows, p, model) for p in peers)]
        for model, row in rows.items()
    ]
    means = [_means(rows, p) for p in peers]
    lines.append(["geometric mean", *[""] * len(names), *means])
    note = f"Medians of {plan.rounds} interleaved rounds after one that warms up; ratios are medians of each round's own ratio."
    return Table("Compile time, warm", heads, lines, [note, _floor_note(plan), *_judged(rows, peers)])


def _judged(rows: Mapping[str, Any], peers: tuple[str, ...]) -> list[str]:
    mean = geomean(list(ratios(rows, "ort").values())) if "ort" in peers else None
    return [] if mean is None else [verdict("fxc ÷ ORT path, geometric mean, warm", mean, BAR)]


def _cold(plan: Plan, rows: Mapping[str, Any]) -> Table:
    heads = ["model", *(f"{title(n)} wall / CPU s" for n in plan.contestants)]
    lines = [
        [model, *(_pair(row.get("cold", {}), n) for n in plan.contestants)] for model, row in rows.items()
    ]
    note = f"Medians of {plan.cold} fresh processes each: the first call, with the imports it needs; torch's own and the model are there already."
    return Table("Compile time, cold", heads, lines, [note])


def _stages(plan: Plan, rows: Mapping[str, Any]) -> Table:
    lines = []
    for model, row in rows.items():
        for name in plan.contestants:
            stages = row.get("warm", {}).get(name, {}).get("stages", {})
            text = " · ".join(f"{stage} {median(s):.2f}" for stage, s in stages.items())
            lines.append([model, title(name), text or failure(row.get("warm", {}), name)])
    return Table("Stages, warm, wall seconds", ["model", "path", "medians"], lines)


def _floor_note(plan: Plan) -> str:
    return (
        f"floor: one torch.export.export(strict=False) of a static batch of 1, and one eager forward over the same "
        f"{plan.images} images in batches of {plan.batch}."
    )


def _title(name: str) -> str:
    return name if name == FLOOR else title(name)


def _pair(found: Mapping[str, Any], name: str) -> str:
    times = found.get(name, {})
    if not times.get("wall"):
        return failure(found, name)
    return f"{median(times['wall']):.2f} / {median(times['cpu']):.2f}"


def _ratio(rows: Mapping[str, Any], peer: str, model: str) -> str:
    return " / ".join(number(ratios(rows, peer, clock).get(model)) for clock in ("wall", "cpu"))


def _means(rows: Mapping[str, Any], peer: str) -> str:
    return " / ".join(number(geomean(list(ratios(rows, peer, clock).values()))) for clock in ("wall", "cpu"))
