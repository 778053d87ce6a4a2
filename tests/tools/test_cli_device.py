"""``fxc verify --device-outputs``: a net whose outputs a "device" answers a little, or far, otherwise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fxc
from fxc.tools.cli.main import main
from tests.tools.test_cli_flow import SOURCE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("device")
    (root / "net.py").write_text(SOURCE)
    words = ["compile", f"{root}/net.py:make", "-t", "ort-int8", "-o", str(root / "bundle"), "--no-verify"]
    assert main(words) == 0
    return root / "bundle"


@pytest.fixture
def folder(bundle: Path, tmp_path: Path) -> Path:
    """The recorded answers, with the noise of a few roundings that went the other way."""
    (recorded,) = fxc.load(bundle).golden.outputs
    noise = np.random.default_rng(0).normal(size=recorded.shape) * float(recorded.std()) * 1e-4
    np.save(tmp_path / "output.npy", (recorded.numpy() + noise).astype(np.float32))
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], words: list[str], code: int) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["verify", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_close_answers_are_verified(bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, [str(bundle), "--device-outputs", str(folder)], 0)
    (row,) = told["device"]["outputs"]
    assert told["verified"]
    assert row["passed"]
    assert row["top1"] == 1.0
    assert row["agreement"] > 60 > row["device"]
    assert row["device"] == pytest.approx(row["simulated"], abs=0.1)
    assert main(["verify", str(bundle), "--device-outputs", str(folder)]) == 0
    text = capsys.readouterr().out
    for word in ("simulated", "device", "worst sample", f"{row['device']:.1f}", "100.0%", "verified"):
        assert word in text


def test_other_answers_are_not(bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = np.load(folder / "output.npy")
    np.save(folder / "output.npy", answers[:, ::-1])
    words = [str(bundle), "--device-outputs", str(folder)]
    told = document(capsys, words, 1)
    assert not told["verified"]
    assert all(check["passed"] for check in told["checks"]), "the bundle itself is as it was"
    assert document(capsys, [*words, "--tolerance", "300"], 0)["verified"]


def test_without_a_device_nothing_is_said_of_one(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, [str(bundle)], 0)["device"] is None


def test_what_is_refused(bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(folder / "nowhere")
    assert nowhere in document(capsys, [str(bundle), "--device-outputs", nowhere], 1)["what"]
    assert document(capsys, [str(bundle), "--tolerance", "2"], 1)["error"] == "UsageError"
    words = [str(bundle), "--device-outputs", str(folder), "--tolerance", "-1"]
    assert document(capsys, words, 1)["error"] == "UsageError"
    (folder / "output.npy").write_bytes(b"\x80\x04.")
    told = document(capsys, [str(bundle), "--device-outputs", str(folder)], 1)
    assert "output.npy" in told["what"]
    assert told["error"] == "ArtifactError"
