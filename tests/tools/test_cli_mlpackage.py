"""``fxc run``, ``verify`` and ``inspect`` on a Core ML package that fxc did not make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fxc.tools.cli.main import main
from tests.backends.coreml.made import convert

pytest.importorskip("coremltools")

MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
"""


def made(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreml")
    for seed in (0, 1):
        (folder / f"m{seed}.py").write_text(MODEL.replace("SEED", str(seed)))
    return convert(made(0), (torch.rand(1, 3, 8, 8),), folder / "m.mlpackage", half=True)


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:  # type: ignore[type-arg]
    code = main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_run(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    for name, words in (("a", ()), ("b", ("--precision", "f16"))):
        code, told = answer(
            capsys, "run", package, tmp_path / "x.npy", "-o", tmp_path / f"{name}.npy", *words
        )
        assert code == 0
        assert next(iter(told["outputs"].values()))["shape"] == [3, 5]
    with torch.no_grad():
        want = made(0)(torch.from_numpy(x)).numpy()
    a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    np.testing.assert_allclose(a, want, atol=5e-3)
    np.testing.assert_array_equal(b, b.astype(np.float16).astype(np.float32))
    assert not np.array_equal(a, b)


def test_verify(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = answer(capsys, "verify", package, "--against", f"{package.parent / 'm0.py'}:make")
    assert (code, told["verified"]) == (0, True)
    code, told = answer(capsys, "verify", package, "--against", f"{package.parent / 'm1.py'}:make")
    assert (code, told["verified"]) == (1, False)


def test_verify_needs_something_to_compare_with(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = answer(capsys, "verify", package)
    assert code != 0
    assert "--against" in told["fix"]


def test_inspect(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = answer(capsys, "inspect", package)
    assert code == 0
    assert told["operators"]["conv"] == told["operators"]["linear"] == 1
    assert told["precisions"]["float16"] >= 4
    assert told["bytes"]["Data/com.apple.CoreML/weights/weight.bin"] > 0
    assert len(told["inputs"]) == 1


@pytest.mark.parametrize("command", ["run", "inspect", "verify"])
def test_a_package_that_is_none(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mlpackage").mkdir()
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    words = {"run": [tmp_path / "x.npy"], "verify": ["--against", "torchvision:resnet18"]}.get(command, [])
    code, told = answer(capsys, command, tmp_path / "x.mlpackage", *words)
    assert code != 0
    assert told["error"] == "ArtifactError"


def test_precision_is_of_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1, np.float32))
    code, told = answer(capsys, "run", tmp_path, tmp_path / "x.npy", "--precision", "f16")
    assert code != 0
    assert told["error"] == "UsageError"
