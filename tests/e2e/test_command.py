"""Bad input through the command: exit code, one clear message, no traceback, nothing left behind."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fxc
from fxc.tools.cli.main import main
from tests.compiler import hostile_pt2
from tests.e2e.nets import content

NETS = """
import sys, time
import torch
from torch import nn

def good():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs()

class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Slow:
    def __iter__(self):
        yield torch.ones(2, 3, 16, 16)
        if len(sys.argv) > 2 and "slow" in sys.argv:
            print("now", flush=True)
            time.sleep(60)

slow = Slow()
"""
SHAPE = ["--input-shape", "1,3,16,16"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nets and a place for output; fxc's temporary folders are in ``temporary``."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *words: str, said: str, code: int = 1) -> None:
    """Run the command; it must fail, say ``said`` without a traceback, and leave the folder as it was."""
    before = content(folder)
    assert main(list(words)) == code
    told = capsys.readouterr().err
    assert said in told, told
    assert "Traceback" not in told
    assert "bug in fxc" not in told
    assert content(folder) == before
    assert list((folder / "temporary").iterdir()) == []


def images(folder: Path, good: int, bad: int) -> str:
    """A folder of small images, ``bad`` of them unreadable."""
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(good):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(
            folder / "images" / f"{i:02}.png"
        )
    for i in range(bad):
        (folder / "images" / f"bad{i}.png").write_bytes(b"\x89PNG but cut short")
    return str(folder / "images")


@pytest.mark.parametrize(
    ("net", "said"),
    [("Spectrum", "fft_rfft2"), ("Branch", "data-dependent"), ("gone", "gone"), ("slow", "nets.py:slow")],
)
def test_models(net: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{folder}/nets.py:{net}", "-t", "ort-int8", *SHAPE, "-o", f"{folder}/out"]
    refused(folder, capsys, *words, said=said)


def test_an_operator_that_the_target_lacks_is_found_by_lint(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lint", f"{folder}/nets.py:Spectrum", "-t", "cpu-int8", *SHAPE]) == 1
    assert "fft_rfft2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((0, 3, 16, 16), np.float32), "data.npy"),
        (np.full((4, 3, 16, 16), np.nan, np.float32), "NaN"),
        (np.full((4, 3, 16, 16), np.inf, np.float32), "infinity"),
        (np.zeros((4, 3, 8, 8), np.float32), "[4, 3, 8, 8]"),
    ],
)
def test_calibration_arrays(
    array: np.ndarray, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "data.npy", array)
    words = ["compile", f"{folder}/nets.py:good", "-t", "ort-int8", *SHAPE, "-o", f"{folder}/out"]
    refused(folder, capsys, *words, "--calibration-data", f"{folder}/data.npy", said=said)


def test_unreadable_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{folder}/nets.py:good", "-t", "ort-int8", *SHAPE, "-o", f"{folder}/out"]
    words += ["--size", "16", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    some = images(folder, good=19, bad=1)
    assert main([*words, "--calibration-data", some]) == 0
    assert "bad0.png" in capsys.readouterr().err
    assert fxc.load(folder / "out").report["calibration"]["images"] == 19
    for i in range(3):
        (folder / "images" / f"worse{i}.png").write_bytes(b"")
    refused(folder, capsys, *words, "--force", "--calibration-data", some, said="images")


def test_a_pickle_of_code_as_data_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(hostile_pt2.Evil(folder / "marker"), folder / "evil.pt")
    (folder / "raw.pt").write_bytes(pickle.dumps(hostile_pt2.Evil(folder / "marker")))
    words = ["compile", f"{folder}/nets.py:good", "-t", "ort-int8", *SHAPE, "-o", f"{folder}/out"]
    for name in ("evil.pt", "raw.pt"):
        refused(folder, capsys, *words, "--calibration-data", f"{folder}/{name}", said=name)
    refused(
        folder,
        capsys,
        "compile",
        f"{folder}/evil.pt",
        "-t",
        "ort-int8",
        "-o",
        f"{folder}/out",
        said="evil.pt",
    )
    assert not (folder / "marker").exists()


def test_a_hostile_pt2_as_model_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genuine = hostile_pt2.genuine(folder / "genuine.pt2")
    attack = hostile_pt2.ROUTES["pickled weight"]
    hostile_pt2.rewrite(genuine, folder / "evil.pt2", lambda members: attack(members, folder / "marker"))
    words = ["compile", f"{folder}/evil.pt2", "-t", "ort-int8", "-o", f"{folder}/out"]
    refused(folder, capsys, *words, said="evil.pt2")
    assert not (folder / "marker").exists()


def test_outputs_that_must_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", f"{folder}/nets.py:good", "-t", "ort-int8", *SHAPE, "-o", f"{folder}/out"]
    assert main(words) == 0
    refused(folder, capsys, *words, said="--force")
    refused(folder, capsys, *words[:-1], f"{folder}/nets.py", said="nets.py")
    refused(folder, capsys, *words[:-1], "/proc/fxc/out", said="/proc/fxc")
    refused(folder, capsys, *words[:-1], str(folder), said="files that fxc did not write")
    assert main([*("ort-fp32" if word == "ort-int8" else word for word in words), "--force"]) == 0
    assert fxc.load(folder / "out").manifest["target"]["name"] == "ort-fp32"


def test_inputs_and_bundles_at_run_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = f"{folder}/out"
    assert main(["compile", f"{folder}/nets.py:good", "-t", "ort-int8", *SHAPE, "-o", bundle]) == 0
    np.save(folder / "small.npy", np.zeros((1, 3, 8, 8), np.float32))
    np.save(folder / "double.npy", np.zeros((1, 3, 16, 16), np.complex64))
    np.savez(folder / "two.npz", a=np.zeros((1, 3, 16, 16), np.float32), b=np.zeros(1))
    capsys.readouterr()
    for name, said in (("small.npy", "[1, 3, 8, 8]"), ("double.npy", "complex64"), ("two.npz", "two.npz")):
        refused(folder, capsys, "run", bundle, f"{folder}/{name}", said=said)
    refused(folder, capsys, "run", bundle, f"{folder}/gone.npy", said="gone.npy")
    (folder / "out" / "model.onnx").write_bytes(b"damaged")
    for command in (["run", bundle, f"{folder}/small.npy"], ["verify", bundle], ["inspect", bundle]):
        refused(folder, capsys, *command, said="model.onnx")
    refused(folder, capsys, "inspect", f"{folder}/nowhere", said="nowhere")


def test_a_refusal_as_json_has_its_four_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "compile",
        f"{folder}/nets.py:Spectrum",
        "-t",
        "ort-int8",
        *SHAPE,
        "-o",
        f"{folder}/out",
        "--json",
    ]
    assert main(words) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "LegalityError"
    assert all(document[part] for part in ("what", "where", "why", "fix"))


def test_a_real_ctrl_c_while_calibrating(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "fxc.tools.cli.main",
        "compile",
        f"{folder}/nets.py:good",
        "-t",
        "ort-int8",
    ]
    command += [
        *SHAPE,
        "-o",
        f"{folder}/out",
        "--calibration-data",
        f"{folder}/nets.py:slow",
        "--name",
        "slow",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A runner in the background ignores the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "now"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert "interrupted" in told
    assert "Traceback" not in told
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == ["nets.py", "temporary"]
    assert list((folder / "temporary").glob("fxc-*")) == []
