"""One model end to end, measured: what the conformance test asserts on and what the tables in ``tests/zoo`` show."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import fxc
from fxc.compiler.artifact import Artifact
from fxc.compiler.macs import macs
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.driver import Request, prepare
from fxc.passes.pipelines import canonical
from fxc.stages import Stages
from tests.conformance import layerwise
from tests.conformance.norms import Norms, count_norms
from tests.models import metrics
from tests.models.alive import least_move
from tests.models.images import images
from tests.models.zoo import build

aten = torch.ops.aten

TARGETS = ("cpu-int8", "ort-int8")
ATTENTION = {
    aten.layer_norm.default,
    aten.scaled_dot_product_attention.default,
    aten.matmul.default,
    aten.bmm.default,
}
"""A graph without any of these is a pure conv net: convolutions, linear layers, pooling, gates, activations."""
CHUNK = 8
"""Images per forward of the held-out ones."""
LARGE, HUGE = 8e9, 25e9
"""Multiply-accumulates per image from which half, and a quarter, of the images are used."""
ZEROED = 12
"""Weights, spread over the depth, that are zeroed one at a time to see that the model is alive."""
CALIBRATION = 32
HELD_OUT = 16
"""On four images the detector's decibels move by 2 either way from image to image; on sixteen by a few tenths."""


@dataclass(frozen=True)
class TargetRow:
    """One target's file of one model.

    Attributes:
        graph_db, file_db: SQNR against the float module, on images that calibration did not see; of several outputs, the
            worst one's.
        lost_db: how much further from float the file is than its graph, of the output where that is most.
        coverage: share of conv, linear and matmul MACs that the runtime says it executes on integers.
        ratio: model file's bytes over the float weights' bytes.
        float_layers: conv, linear and matmul layers that run in float.
    """

    graph_db: float
    file_db: float
    lost_db: float
    coverage: float
    ratio: float
    float_layers: list[str]


@dataclass(frozen=True)
class Spent:
    """What compiling one program for both targets took, capture not counted.

    Attributes:
        seconds, cpu_seconds: wall clock and processor time.
        peak_gb: highest resident memory meanwhile, the eager module and its outputs included; None if unknown.
    """

    seconds: float
    cpu_seconds: float
    peak_gb: float | None


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        macs: multiply-accumulates of one image.
        dynamic: whether the capture kept the batch dynamic.
        pure_conv: whether the captured graph has none of :data:`ATTENTION`.
        calibration, held_out: images used.
        least_move: smallest relative move of the output when one of :data:`ZEROED` weights is zeroed.
        error_l2, error_max: optimized float program against the module, relative; of several outputs, the worst one's.
        layers, worst, flips: quantized tensors compared one by one in ONNX Runtime on the graph's own inputs, the
            largest difference in codes, and the share of codes that differ.
    """

    name: str
    resolution: int
    parameters: int
    macs: int
    dynamic: bool
    pure_conv: bool
    calibration: int
    held_out: int
    least_move: float
    error_l2: float
    error_max: float
    norms: Norms
    targets: dict[str, TargetRow]
    spent: Spent
    layers: int
    worst: int
    flips: float


def measure(name: str, resolution: int | None = None) -> Row:
    """Capture once, compile for both int8 targets, and compare with the eager module on held-out images."""
    model, x = build(name, resolution=resolution)
    program = fxc.capture(model, (x,), name=name)
    work = sum(macs(node) for node in program.graph.nodes)
    share = 1 if work < LARGE else 2 if work < HUGE else 4
    size, chunk = x.shape[-1], CHUNK if program.dynamic else 1
    held_out = images(HELD_OUT // share, size, seed=2)
    reference = _outputs(model, held_out, chunk)
    errors, norms = _float_errors(program, reference, held_out, chunk)
    data = list(images(CALIBRATION // share, size, seed=1).split(chunk))
    artifacts, spent = _compiled(program, data)
    rows = _layers(artifacts["ort-int8"], held_out[:1])
    return Row(
        name=name,
        resolution=size,
        parameters=sum(p.numel() for p in model.parameters()),
        macs=work,
        dynamic=program.dynamic,
        pure_conv=not any(node.target in ATTENTION for node in program.graph.nodes),
        calibration=CALIBRATION // share,
        held_out=HELD_OUT // share,
        least_move=least_move(model, x, ZEROED),
        error_l2=max(error[0] for error in errors),
        error_max=max(error[1] for error in errors),
        norms=norms,
        targets={name: _target_row(a, reference, held_out, chunk) for name, a in artifacts.items()},
        spent=spent,
        layers=len(rows),
        worst=max(r.worst for r in rows),
        flips=sum(r.flips for r in rows) / len(rows),
    )


def _outputs(call: Callable[[Tensor], Any], x: Tensor, chunk: int) -> list[Tensor]:
    """Every output tensor, flat, of all images, computed a few at a time."""
    with torch.no_grad():
        parts = [pytree.tree_leaves(call(piece)) for piece in x.split(chunk)]
    return [torch.cat(pieces) for pieces in zip(*parts, strict=True)]


def _float_errors(
    program: Program, reference: list[Tensor], x: Tensor, chunk: int
) -> tuple[list[tuple[float, float]], Norms]:
    optimized = prepare(program, Request(target=_target(TARGETS[0])), Stages(None))
    pairs = zip(_outputs(optimized, x, chunk), reference, strict=True)
    errors = [(metrics.rel_l2(got, want), metrics.rel_max(got, want)) for got, want in pairs]
    return errors, count_norms(run_pipeline(program, canonical()), optimized)


def _target(name: str) -> Any:
    return next(target for target in fxc.targets() if target.name == name)


def _compiled(program: Program, data: list[Tensor]) -> tuple[dict[str, Artifact], Spent]:
    restart_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    artifacts = fxc.compile(program, list(TARGETS), calibration_data=data)
    return dict(artifacts), Spent(time.perf_counter() - wall, time.process_time() - cpu, peak_gb())


def _layers(artifact: Artifact, x: Tensor) -> list[layerwise.LayerDifference]:
    return layerwise.compare(artifact.model, artifact.program, (x,), dict(artifact.manifest["tensors"]))


def _target_row(artifact: Artifact, reference: list[Tensor], x: Tensor, chunk: int) -> TargetRow:
    graph = _decibels(reference, _outputs(artifact.program, x, chunk))
    file = _decibels(reference, _outputs(artifact, x, chunk))
    return TargetRow(
        graph_db=min(graph),
        file_db=min(file),
        lost_db=max(a - b for a, b in zip(graph, file, strict=True)),
        coverage=artifact.report["kernels"]["mac_coverage"],
        ratio=artifact.report["size"]["ratio"],
        float_layers=artifact.report["kernels"]["float_layers"],
    )


def _decibels(reference: list[Tensor], outputs: list[Tensor]) -> list[float]:
    return [metrics.sqnr_db(*pair) for pair in zip(reference, outputs, strict=True)]


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def restart_peak() -> None:
    """Let :func:`peak_gb` count from here; does nothing where the kernel keeps no such count."""
    with suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def peak_gb() -> float | None:
    """Highest resident memory of this process since :func:`restart_peak` in 1e9 bytes, if the kernel tells it."""
    if not (_STATUS.is_file() and _CLEAR.exists()):
        return None
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    high = next((line for line in lines if line.startswith("VmHWM")), None)
    return None if high is None else int(high.split()[1]) * 1024 / 1e9
