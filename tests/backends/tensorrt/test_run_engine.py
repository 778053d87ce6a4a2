"""``run_engine.py`` against a stand-in for TensorRT that computes with ONNX Runtime: what it writes, ``verify`` reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxc

STAND_IN = Path(__file__).parent / "stand_in"


class Heads(nn.Module):
    """Several outputs, of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 16, 3, 2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = torch.relu(self.body(x))
        scores = self.head(features.mean((2, 3)))
        return {"scores": scores, "best": scores.argmax(1)}


@pytest.mark.parametrize("file", ["model.onnx", "model.typed.onnx"])
def test_what_the_runner_writes_is_what_verify_reads(tmp_path: Path, file: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    artifact = fxc.compile(Heads().eval(), "jetson-fp16", example_inputs=(x,))
    bundle, outputs = Path(artifact.save(tmp_path / "bundle")), tmp_path / "outputs"
    (tmp_path / "model.engine").write_text(str(bundle / file))
    command = [
        sys.executable,
        bundle / "run_engine.py",
        "--engine",
        tmp_path / "model.engine",
        "--output",
        outputs,
    ]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(STAND_IN)}, check=True)
    scores, best = artifact.compare_device(outputs)
    assert scores.identical is (file == "model.onnx")
    assert scores.passed
    assert best.passed
    with torch.no_grad():
        other = Heads().eval()(artifact.golden.inputs[0])  # other weights: nothing passes by itself
    np.save(outputs / "scores.npy", other["scores"].numpy())
    assert not artifact.compare_device(outputs)[0].passed
