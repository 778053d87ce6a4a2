"""The fourteen models end to end, measured: what the test asserts on and the table in ``tests/zoo/spine.md`` shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import fxc
from fxc.compiler.artifact import Artifact
from fxc.compiler.program import Program
from fxc.driver import Request, prepare
from fxc.stages import Stages
from tests.conformance import layerwise
from tests.models import metrics
from tests.models.images import images
from tests.models.zoo import build

TARGETS = ("cpu-int8", "ort-int8")
CALIBRATION = 32
HELD_OUT = 16
"""On four images the detector's decibels move by 2 either way from image to image; on sixteen by a few tenths."""


@dataclass(frozen=True)
class TargetRow:
    """One target's file of one model.

    Attributes:
        graph_db, file_db: SQNR of the outputs against the float module, on images that calibration did not see.
        coverage: share of conv, linear and matmul MACs that the runtime says it executes on integers.
        ratio: model file's bytes over the float weights' bytes.
    """

    graph_db: float
    file_db: float
    coverage: float
    ratio: float


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        error_l2, error_max: optimized float program against the module, relative.
        layers, worst, flips: quantized tensors compared one by one in ONNX Runtime on the graph's own inputs, the
            largest difference in codes, and the share of codes that differ.
    """

    name: str
    error_l2: float
    error_max: float
    targets: dict[str, TargetRow]
    layers: int
    worst: int
    flips: float


def measure(name: str, resolution: int) -> Row:
    """Capture once, compile for both int8 targets, and compare with the eager module on held-out images."""
    model, x = build(name, resolution=resolution)
    program = fxc.capture(model, (x,), name=name)
    held_out = images(HELD_OUT, resolution, seed=2)
    with torch.no_grad():
        reference = model(held_out)
    optimized = prepare(program, Request(target=fxc.targets()[1]), Stages(None))(held_out)
    artifacts = {target: _compiled(program, target, resolution) for target in TARGETS}
    rows = layerwise.compare(
        _model(artifacts["ort-int8"]),
        artifacts["ort-int8"].program,
        (held_out[:1],),
        _tensors(artifacts["ort-int8"]),
    )
    return Row(
        name,
        metrics.rel_l2(optimized, reference),
        metrics.rel_max(optimized, reference),
        {target: _target_row(artifact, reference, held_out) for target, artifact in artifacts.items()},
        len(rows),
        max(r.worst for r in rows),
        sum(r.flips for r in rows) / len(rows),
    )


def _compiled(program: Program, target: str, resolution: int) -> Artifact:
    return fxc.compile(program, target, calibration_data=[images(CALIBRATION, resolution, seed=1)])


def _target_row(artifact: Artifact, reference: torch.Tensor, x: torch.Tensor) -> TargetRow:
    return TargetRow(
        metrics.sqnr_db(reference, artifact.program(x)),
        metrics.sqnr_db(reference, artifact(x)),
        artifact.report["kernels"]["mac_coverage"],
        artifact.report["size"]["ratio"],
    )


def _model(artifact: Artifact) -> Path:
    return artifact.model


def _tensors(artifact: Artifact) -> dict[str, str]:
    return dict(artifact.manifest["tensors"])
