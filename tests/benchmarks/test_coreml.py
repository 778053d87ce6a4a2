"""The evaluator of Core ML programs beside eager PyTorch: a float32 program of ResNet-50, one thread, the same image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fxc.backends.coreml.emit import emit
from fxc.backends.coreml.run import Evaluator, load
from fxc.backends.coreml.target import IPHONE_FP16, IPHONE_FP32
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize

pytest.importorskip("coremltools")


@pytest.fixture(scope="module")
def package(captured: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreml")
    return folder / emit(run_pipeline(captured, optimize()), IPHONE_FP32, folder).model


@pytest.fixture(scope="module")
def evaluator(package: Path) -> Evaluator:
    return load(package)


@pytest.mark.benchmark(group="coreml: one image")
def test_eager(benchmark: Any, resnet50: nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode():
        benchmark.pedantic(resnet50, (image,), rounds=20, warmup_rounds=3)


@pytest.mark.benchmark(group="coreml: one image")
def test_evaluator(benchmark: Any, evaluator: Evaluator, resnet50: nn.Module, image: torch.Tensor) -> None:
    (answer,) = benchmark.pedantic(evaluator, ([image.numpy()],), rounds=20, warmup_rounds=3)
    with torch.inference_mode():
        np.testing.assert_allclose(answer, resnet50(image), rtol=1e-2, atol=1e-3)


@pytest.mark.benchmark(group="coreml: files")
def test_load(benchmark: Any, package: Path) -> None:
    benchmark.pedantic(load, (package,), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="coreml: files")
def test_emit(benchmark: Any, captured: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = run_pipeline(captured, optimize())

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (program, IPHONE_FP16, tmp_path_factory.mktemp("emitted")), {}

    benchmark.pedantic(emit, setup=fresh, rounds=3)
