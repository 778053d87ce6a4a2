"""The fourteen models end to end: float equality, both int8 targets, every layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fxc
from fxc.driver import Request, prepare
from fxc.compiler.program import Program
from fxc.proof import sqnr_db
from fxc.stages import Stages
from tests.conformance import layerwise
from tests.models import metrics
from tests.models.images import images
from tests.models.zoo import NAMES, PURE_CONV, build

RESOLUTION = 224
COVERAGE_PURE, COVERAGE = 0.99, 0.90


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[str, torch.nn.Module, Program]:
    model, x = build(request.param, resolution=RESOLUTION)
    return request.param, model, fxc.capture(model, (x,), name=request.param)


def calibration() -> list[torch.Tensor]:
    return [images(8, RESOLUTION, seed=1)]


def held_out() -> torch.Tensor:
    return images(4, RESOLUTION, seed=2)


@pytest.mark.slow
def test_optimized_float_equals_the_module(case: tuple[str, torch.nn.Module, Program]) -> None:
    _, model, program = case
    optimized = prepare(program, Request(target=fxc.catalogue.target("cpu-fp32")), Stages(None))
    x = held_out()
    with torch.no_grad():
        want = model(x)
    got = optimized(x)
    assert metrics.rel_l2(got, want) <= 1e-4
    assert metrics.rel_max(got, want) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8"])
def test_int8_file_keeps_what_the_graph_keeps(
    case: tuple[str, torch.nn.Module, Program], target: str, tmp_path: Path
) -> None:
    name, model, program = case
    artifact = fxc.compile(program, target, calibration_data=calibration())
    x = held_out()
    with torch.no_grad():
        reference = model(x)
    graph_db = sqnr_db(metrics.flat(reference), metrics.flat(artifact.program(x)))
    file_db = sqnr_db(metrics.flat(reference), metrics.flat(artifact(x)))
    assert graph_db is not None
    assert file_db is not None
    assert file_db >= graph_db - 1.0
    coverage = artifact.report["kernels"]["mac_coverage"]
    assert coverage >= (COVERAGE_PURE if name in PURE_CONV else COVERAGE), artifact.report["kernels"][
        "float_layers"
    ]


@pytest.mark.slow
def test_every_layer_within_one_code(case: tuple[str, torch.nn.Module, Program]) -> None:
    _, _, program = case
    artifact = fxc.compile(program, "ort-int8", calibration_data=calibration())
    x = (held_out()[:1],)
    path = artifact.path / artifact.manifest["model"]
    rows = layerwise.compare(path, artifact.program, x, artifact.manifest["tensors"])
    assert rows
    wrong = [r for r in rows if r.worst > 1]
    assert not wrong
    assert sum(r.flips for r in rows) / len(rows) < 0.01
