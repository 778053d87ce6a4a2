"""A detector's scores for a Rockchip NPU: as for TensorRT, they must come through the concats with their own scale."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import fxc
from tests.backends.tensorrt.test_detector import BRANCHES, SIZE, SURVIVE, surviving
from tests.models.images import images
from tests.models.zoo import build


def test_scores_survive_the_concats(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FXC_CACHE", str(tmp_path / "no toolkit here"))
    model, _ = build("yolo", resolution=SIZE)
    data = images(16, SIZE, seed=1)
    artifact = fxc.compile(
        model, "rk3588-int8", example_inputs=(data[:1],), calibration_data=data.split(8), verify=False
    )
    branches = [artifact.manifest["tensors"][label] for label in BRANCHES]
    found = [surviving(onnx.load(artifact.model), branches, x[None]) for x in images(4, SIZE, seed=5)]
    assert sum(count for _, count in found) > 5_000
    assert all(share >= SURVIVE for share, _ in found)
