"""Ctrl-C at every stage of a compile: exit code 130, one line, and an output folder that is as it was."""

import gc
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fxc.stages import STAGES
from fxc.tools.cli import compile as command
from fxc.tools.cli.main import main

SOURCE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 4))
    net.example_input_array = torch.zeros(1, 3, 16, 16)
    return net
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(SOURCE)
    return f"{tmp_path}/net.py:make"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def interrupt_at(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise what Ctrl-C raises when the compile says that it enters ``stage``."""
    original = command.run_job

    def interrupted(job: command.Job, report: Any) -> Any:
        def told(name: str, done: int = 0, total: int | None = None) -> None:
            if name == stage:
                raise KeyboardInterrupt
            report(name, done, total)

        return original(job, told)

    monkeypatch.setattr(command, "run_job", interrupted)


@pytest.mark.parametrize("stage", ["load", *STAGES, "save"])
def test_an_interrupt_leaves_nothing_behind(
    stage: str,
    net: str,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt_at(stage, monkeypatch)
    out = tmp_path / "out" / "bundle"
    assert main(["compile", net, "-t", "ort-int8", "-o", str(out), "--no-verify"]) == 130
    told = capsys.readouterr().err
    assert told.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in told
    assert not out.parent.exists()
    gc.collect()
    assert list(temporary.glob("fxc-*")) == []


def test_an_interrupt_while_an_old_bundle_is_replaced_keeps_it(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    words = ["compile", net, "-t", "ort-fp32", "-o", str(out), "--no-verify"]
    assert main(words) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def copy_interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fxc.compiler.artifact.shutil.copyfile", copy_interrupted)
    assert main([*words, "--force", "--name", "other"]) == 130
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir() if "bundle" in p.name] == ["bundle"]


def test_a_signal_from_outside_while_the_libraries_load(net: str, tmp_path: Path) -> None:
    words = ["compile", net, "-t", "ort-int8", "-o", str(tmp_path / "bundle")]
    process = subprocess.Popen(
        [sys.executable, "-m", "fxc.tools.cli.main", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A test runner in the background may ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("load")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.splitlines()[-1].startswith("interrupted")
    assert not (tmp_path / "bundle").exists()
