"""``fxc compile --target coreai-int8`` and ``run``, ``verify``, ``inspect`` of its bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fxc.tools.cli.main import main

pytestmark = [pytest.mark.usefixtures("core_ai"), pytest.mark.slow]

MODEL = """
import torch
from torch import nn

class Net(nn.Sequential):
    example_input_array = torch.zeros(1, 3, 8, 8)

def make():
    torch.manual_seed(0)
    return Net(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
"""


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:  # type: ignore[type-arg]
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.py").write_text(MODEL)
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    bundle = tmp_path / "b"
    words = ("--target", "coreai-int8", "--calibration-data", tmp_path / "x.npy")
    code, told = answer(capsys, "compile", f"{tmp_path / 'm.py'}:make", *words, "-o", bundle)
    assert code == 0, told
    assert (bundle / "model.aimodel" / "main.mlirb").is_file()
    code, told = answer(capsys, "run", bundle, tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert code == 0, told
    assert np.load(tmp_path / "y.npy").shape == (8, 5)
    code, told = answer(capsys, "verify", bundle)
    assert code == 0, told
    code, told = answer(capsys, "inspect", bundle)
    assert code == 0, told
    (bundle / "model.aimodel" / "main.hash").write_bytes(b"0" * 32)
    code, told = answer(capsys, "run", bundle, tmp_path / "x.npy", "-o", tmp_path / "z.npy")
    assert code != 0
    assert not (tmp_path / "z.npy").exists()
