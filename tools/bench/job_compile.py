"""In a child: how long each path takes from a model to a file, warm rounds in one process or one cold call."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fxc.compiler.errors import FxcError
from fxc.tools.bench.clock import Spent, spent
from fxc.tools.bench.contestants import build
from fxc.tools.bench.figures import rotated
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.subject import Subject, answers, subject

FLOOR = "floor"
"""One ``torch.export`` and one eager forward over the calibration images: what no path that exports can do without."""


def warm(plan: Plan, folder: Path) -> dict[str, Any]:
    """Rounds over all contestants and the floor, the order rotated; the first round warms up and is dropped.

    Returns:
        By contestant ``{"wall": […], "cpu": […], "stages": {name: […]}}`` in seconds, or ``{"failed": reason}``.
    """
    target = subject(plan)
    names = (FLOOR, *plan.contestants)
    found: dict[str, Any] = {name: {"wall": [], "cpu": [], "stages": {}} for name in names}
    for turn in range(plan.rounds + 1):
        for name in rotated(names, turn):
            if "failed" not in found[name]:
                _add(found, name, plan, target, folder / f"{name.replace(':', '_')}-{turn}", turn > 0)
    return found


def cold(plan: Plan, folder: Path, contestant: str) -> dict[str, Any]:
    """The first call in this process: torch and the model are there, everything else is imported on the way."""
    found: dict[str, Any] = {contestant: {"wall": [], "cpu": [], "stages": {}}}
    _add(found, contestant, plan, subject(plan), folder, True)
    mine: dict[str, Any] = found[contestant]
    return mine


def _add(found: dict[str, Any], name: str, plan: Plan, target: Subject, folder: Path, counts: bool) -> None:
    # A copy, so that whatever a converter leaves in a module meets nobody else.
    target = replace(target, model=copy.deepcopy(target.model))
    gc.collect()
    try:
        time, stages = _once(name, plan, target, folder)
    except FxcError as error:
        found[name] = {"failed": error.what}
        return
    if counts:
        found[name]["wall"].append(time.wall)
        found[name]["cpu"].append(time.cpu)
        for stage, seconds in stages.items():
            found[name]["stages"].setdefault(stage, []).append(seconds)


def _once(name: str, plan: Plan, target: Subject, folder: Path) -> tuple[Spent, dict[str, float]]:
    with spent() as time:
        if name == FLOOR:
            _floor(target)
            return time, {}
        built = build(name, target, folder, plan.options(name))
    return time, dict(built.stages)


def _floor(target: Subject) -> None:
    torch.export.export(target.model, (target.example,), strict=False)
    answers(target.model, target.calibration, target.batch)
