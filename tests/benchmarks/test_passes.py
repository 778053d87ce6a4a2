"""Every pass of the catalogue that does not need an extension, and the quantization steps, on a program of ResNet-50's size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxc import catalogue
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ

TARGET = catalogue.target("cpu-int8")


@pytest.fixture(scope="module")
def optimized(captured: Program) -> Program:
    return run_pipeline(captured, (*optimize(), *catalogue.room(TARGET).pipeline(TARGET)))


@pytest.fixture(scope="module")
def annotated(optimized: Program) -> Program:
    assert TARGET.scheme is not None
    return run_pipeline(optimized, (Annotate(TARGET.scheme),))


@pytest.mark.parametrize("name", [name for name in catalogue.PASSES if name != "extension"])
def test_pass(benchmark: Any, captured: Program, name: str) -> None:
    step = catalogue.pipeline(name)[0]
    program = where_it_starts(captured, step)
    benchmark.group = "passes"
    result = benchmark(step.apply, program)
    assert result.program.graph.nodes


@pytest.mark.parametrize("name", ["optimize", "structural_hash"])
def test_whole(benchmark: Any, captured: Program, name: str) -> None:
    benchmark.group = "pipelines"
    if name == "optimize":
        benchmark.pedantic(run_pipeline, (captured, optimize()), rounds=5, warmup_rounds=1)
    else:
        benchmark(structural_hash, captured)


def test_annotate(benchmark: Any, optimized: Program) -> None:
    assert TARGET.scheme is not None
    benchmark.group = "quantization"
    assert benchmark(Annotate(TARGET.scheme).apply, optimized).modified


def test_calibrate(benchmark: Any, annotated: Program, image: torch.Tensor) -> None:
    benchmark.group = "quantization"
    with torch.no_grad():
        benchmark.pedantic(calibrate, (annotated, [image.expand(4, -1, -1, -1)]), rounds=5, warmup_rounds=1)


def test_insert_qdq(benchmark: Any, annotated: Program, image: torch.Tensor) -> None:
    benchmark.group = "quantization"
    assert TARGET.scheme is not None
    with torch.no_grad():
        statistics = calibrate(annotated, [image])
    step = InsertQDQ(TARGET.scheme.share_ratio, TARGET.scheme.mix_signs, statistics)
    assert benchmark(step.apply, annotated).modified


def where_it_starts(program: Program, step: Pass) -> Program:
    """The program as `step` meets it: after what runs before it, or after everything where targets alone use it."""
    names = [p.name for p in optimize()]
    return run_pipeline(program, optimize()[: names.index(step.name)] if step.name in names else optimize())
