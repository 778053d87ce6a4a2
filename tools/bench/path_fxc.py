"""fxc's own path: compile with defaults and save the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fxc
from fxc.compiler.artifact import Artifact
from fxc.stages import STAGES
from fxc.tools.bench.clock import Laps
from fxc.tools.bench.contestants import Built
from fxc.tools.bench.subject import Subject

TARGET = "cpu-int8"


def build(subject: Subject, folder: Path, options: Mapping[str, Any]) -> Built:
    """Compile for the CPU and save; ``options`` are quantization words."""
    laps = Laps()
    with laps("compile"):
        artifact = fxc.compile(
            subject.model,
            TARGET,
            example_inputs=(subject.example,),
            calibration_data=subject.batches(),
            quantization=options or None,
            name=subject.name,
        )
    with laps("save"):
        artifact.save(folder / "bundle", force=True)
    return Built(artifact.model, {**stages(artifact, laps.seconds["compile"]), "save": laps.seconds["save"]})


def stages(artifact: Artifact, total: float) -> dict[str, float]:
    """Seconds of each stage, in order, of a compile that took ``total``; report and bundle are what the rest took."""
    known = artifact.timings["stages"]
    found = {name: known[name] for name in STAGES if name in known and name != STAGES[-1]}
    return {**found, STAGES[-1]: total - sum(found.values())}
