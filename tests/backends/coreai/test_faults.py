"""Missing packages, other versions, damaged models, crashes and endless loops: each a clear error, and nothing left behind."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fxc
from fxc.backends.coreai import ask as asking
from fxc.backends.coreai import toolchain
from fxc.backends.coreai.emit import emit
from fxc.backends.coreai.package import check_package
from fxc.backends.coreai.run import load
from fxc.backends.coreai.target import COREAI_FP32
from fxc.compiler.capture import capture
from fxc.compiler.errors import ArtifactError, InputError, ToolchainError
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize

needed = pytest.mark.usefixtures("core_ai")
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def small() -> Program:
    torch.manual_seed(0)
    program = capture(nn.Linear(3, 4).eval(), (X,))
    for step in optimize():
        program = step.apply(program).program
    return program


@pytest.fixture(scope="module")
def model(core_ai: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coreai")
    return folder / emit(small(), COREAI_FP32, folder).model


def truncated(path: Path) -> None:
    (path / "main.mlirb").write_bytes((path / "main.mlirb").read_bytes()[:-40])


def flipped(path: Path) -> None:
    data = bytearray((path / "main.mlirb").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (path / "main.mlirb").write_bytes(data)


def emptied(path: Path) -> None:
    (path / "main.mlirb").write_bytes(b"")


def without_program(path: Path) -> None:
    (path / "main.mlirb").unlink()


def without_hash(path: Path) -> None:
    (path / "main.hash").unlink()


def with_half_metadata(path: Path) -> None:
    (path / "metadata.json").write_text("{")


def as_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no folder")


@needed
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, "damaged"),
        (flipped, "damaged"),
        (emptied, "no Core AI program"),
        (without_program, r"no whole \.aimodel"),
        (without_hash, r"no whole \.aimodel"),
        (with_half_metadata, "cannot be read"),
        (as_a_file, "is a file"),
        (shutil.rmtree, "there is no model"),
    ],
)
def test_a_damaged_model_is_refused(
    damage: Callable[[Path], None], words: str, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model.aimodel"
    shutil.copytree(model, copy)
    check_package(copy)
    damage(copy)
    with pytest.raises(ArtifactError, match=words):
        load(copy)


@needed
def test_a_model_that_crashes_the_runtime_is_an_error(model: Path, tmp_path: Path) -> None:
    """Its hash fits, so only Core AI sees that it is cut short; that aborts the process."""
    copy = tmp_path / "model.aimodel"
    shutil.copytree(model, copy)
    truncated(copy)
    (copy / "main.hash").write_bytes(hashlib.sha256((copy / "main.mlirb").read_bytes()).digest())
    with pytest.raises(ToolchainError, match=r"Core AI (crashed|refused)") as caught:
        load(copy)([X[:1].numpy()])
    assert "model.aimodel" in str(caught.value.where)


@needed
def test_inputs_that_do_not_fit(model: Path) -> None:
    runner = load(model)
    for inputs, words in (
        ([np.zeros((1, 4), np.float32)], "shape"),
        ([np.zeros((1, 3), np.int32)], "dtype"),
        ([], "takes 1 inputs"),
    ):
        with pytest.raises(InputError, match=words):
            runner(inputs)


def test_no_other_precision_and_no_inner_values(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="bf16"):
        load(tmp_path, precision="bf16")
    with pytest.raises(ArtifactError, match="inner"):
        load(tmp_path, expose=("inner",))


def test_an_endless_worker_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "endless.py"
    script.write_text("import time\nwhile True: time.sleep(1)\n")
    monkeypatch.setattr(asking, "_SCRIPT", script)
    monkeypatch.setenv("FXC_TOOLCHAIN_SECONDS", "1")
    with pytest.raises(ToolchainError, match="did not end within") as caught:
        asking.ask("run", tmp_path, {}, about="model")
    assert "FXC_TOOLCHAIN_SECONDS" in str(caught.value.fix)


def test_a_worker_that_leaves_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "silent.py"
    script.write_text("print('last word')\nraise SystemExit(3)\n")
    monkeypatch.setattr(asking, "_SCRIPT", script)
    with pytest.raises(ToolchainError, match="exit code 3") as caught:
        asking.ask("run", tmp_path, {}, about="model")
    assert "last word" in str(caught.value.why)


def test_without_the_packages_it_lints_and_names_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(toolchain, "installed", dict)
    assert fxc.lint(nn.Linear(3, 4).eval(), "coreai-int8", example_inputs=(X[:1],)) is not None
    with pytest.raises(ToolchainError, match="not installed") as caught:
        emit(small(), COREAI_FP32, tmp_path)
    assert "pip install 'fxc[coreai]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_refused_by_both_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "installed", lambda: {**toolchain.PINNED, "coreai-torch": "0.5.0"})
    with pytest.raises(ToolchainError, match=r"0\.5\.0.*0\.4\.3"):
        emit(small(), COREAI_FP32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_conversion_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "half.py"
    script.write_text(
        "import os\nos.makedirs('model.aimodel')\nopen('model.aimodel/main.mlirb', 'w').write('x')\nos.abort()\n"
    )
    monkeypatch.setattr(asking, "_SCRIPT", script)
    monkeypatch.setattr(toolchain, "installed", lambda: dict(toolchain.PINNED))
    (tmp_path / "out").mkdir()
    with pytest.raises(ToolchainError, match="crashed"):
        emit(small(), COREAI_FP32, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_importing_the_room_imports_no_core_ai() -> None:
    import fxc.backends.coreai.emit
    import fxc.backends.coreai.legal
    import fxc.backends.coreai.run
    import fxc.backends.coreai.worker  # noqa: F401

    assert not any(name.partition(".")[0] in ("coreai", "coreai_torch") for name in sys.modules)
