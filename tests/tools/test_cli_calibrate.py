"""``fxc calibrate``, and ``fxc compile`` for several targets: what they write, say and refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

import fxc
from fxc.tools.cli.main import main
from tests.tools.test_cli_flow import SOURCE


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrate")
    (root / "net.py").write_text(SOURCE)
    rng = np.random.default_rng(0)
    for name, scale in (("x", 1.0), ("y", 3.0)):
        np.save(root / f"{name}.npy", scale * rng.normal(size=(6, 3, 16, 16)).astype(np.float32))
    assert main(["calibrate", f"{root}/net.py:make", "--data", f"{root}/x.npy", "-o", f"{root}/x"]) == 0
    return root


def test_statistics_serve_two_targets_and_an_observer(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compile", f"{workspace}/net.py:make", "-t", "cpu-int8", "-t", "ort-int8", "--observer", "mse"]
    assert main([*words, "--data", f"{workspace}/x", "-o", f"{workspace}/two", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [t["target"]["name"] for t in document["targets"]] == ["cpu-int8", "ort-int8"]
    assert "statistics of 6 samples" in document["calibration_data"]
    assert isinstance(fxc.load(workspace / "two"), fxc.Artifacts)
    assert main(["inspect", f"{workspace}/two/ort-int8"]) == 0


@pytest.mark.parametrize("command", ["run", "inspect", "verify"])
def test_the_folder_over_several_bundles_is_no_bundle(
    workspace: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (workspace / "pair").exists():
        words = ["compile", f"{workspace}/net.py:make", "-t", "cpu-int8", "-t", "cpu-fp32", "--no-verify"]
        assert main([*words, "--data", f"{workspace}/x.npy", "-o", f"{workspace}/pair"]) == 0
    inputs = [f"{workspace}/x.npy"] if command == "run" else []
    assert main([command, f"{workspace}/pair", *inputs]) == 1
    told = capsys.readouterr().err
    assert "several targets" in told
    assert f"{workspace}/pair/cpu-int8" in told


def test_runs_are_merged(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["calibrate", f"{workspace}/net.py:make", "--data", f"{workspace}/y.npy"]
    assert main([*words, "--merge", f"{workspace}/x", "-o", f"{workspace}/both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 12
    wide, narrow = (fxc.Statistics.load(workspace / name).tensors["x"] for name in ("both", "x"))
    assert wide.high > narrow.high
    assert wide.low < narrow.low


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "{root}/x"], "holds statistics already"),
        (["--data", "{root}/none.npy"], "there is no"),
        (["--data", "{root}/x.npy", "--merge", "{root}/none"], "no calibration statistics"),
        (["--data", "{root}/x.npy", "-o", "{root}/x"], "already holds"),
        (["--data", "{root}/x.npy", "-t", "cpu-int9"], "unknown target"),
    ],
)
def test_what_is_refused(
    workspace: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workspace / "x" / "statistics.json").read_bytes()
    output = [] if "-o" in words else ["-o", f"{workspace}/never"]
    filled = [word.format(root=workspace) for word in words]
    assert main(["calibrate", f"{workspace}/net.py:make", *filled, *output]) == 1
    assert said in capsys.readouterr().err
    assert not (workspace / "never").exists()
    assert (workspace / "x" / "statistics.json").read_bytes() == before
