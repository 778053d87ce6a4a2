"""Writing a model file, and loading it in the runtime it is for."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxc
from fxc import catalogue
from fxc.compiler.artifact import Artifact

TARGETS = ("cpu-int8", "ort-int8", "cpu-fp32")


@pytest.fixture(scope="module", params=TARGETS)
def artifact(request: pytest.FixtureRequest, resnet50: nn.Module, image: torch.Tensor) -> Artifact:
    return fxc.compile(
        resnet50, request.param, example_inputs=(image,), calibration_data=[image], verify=False
    )


@pytest.mark.benchmark(group="emit")
def test_emit(benchmark: Any, artifact: Artifact, tmp_path: Path) -> None:
    target = catalogue.target(str(artifact.manifest["target"]["name"]))
    emitted = benchmark.pedantic(
        catalogue.room(target).emit, (artifact.program, target, tmp_path), rounds=5, warmup_rounds=1
    )
    assert (tmp_path / emitted.model).is_file()


@pytest.mark.benchmark(group="load and first run")
def test_load(benchmark: Any, artifact: Artifact, image: torch.Tensor) -> None:
    benchmark.pedantic(lambda: artifact.runner(threads=1)([image.numpy()]), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="save")
def test_save(benchmark: Any, artifact: Artifact, tmp_path: Path) -> None:
    fresh = ((tmp_path / str(i),) for i in count())
    benchmark.pedantic(artifact.save, setup=lambda: (next(fresh), {}), rounds=5, warmup_rounds=1)
