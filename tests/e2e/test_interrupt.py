"""Ctrl-C at every stage: the old artifact stays, and no temporary folder does."""

import gc
import tempfile
from pathlib import Path
from typing import Any

import pytest

import fxc
from fxc.stages import STAGES
from tests.e2e.nets import built, compiled, content


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8"])
def test_an_interrupt_leaves_nothing(stage: str, target: str, temporary: Path) -> None:
    def press(name: str, done: int, total: int | None) -> None:
        if name == stage:
            raise KeyboardInterrupt

    model, x = built("conv_chain")
    # The traceback keeps every frame alive: the folder must be gone all the same.
    with pytest.raises(KeyboardInterrupt) as caught:
        fxc.compile(model, target, example_inputs=x, progress=press)
    assert list(temporary.iterdir()) == []
    assert caught.value is not None


def test_an_interrupt_while_calibrating(temporary: Path) -> None:
    told: list[int] = []

    def press(name: str, done: int, total: int | None) -> None:
        if name == "calibrate" and done:
            told.append(done)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled(progress=press)
    assert told
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("call", ["shutil.copyfile", "bundle.verify"])
def test_an_interrupt_while_saving(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = compiled("conv_chain", "ort-fp32").save(tmp_path / "bundle")
    before, artifact = content(old), compiled()
    answer, calls = artifact.path, []

    def press(*arguments: Any) -> None:
        calls.append(arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"fxc.compiler.artifact.{call}", press)
        with pytest.raises(KeyboardInterrupt):
            artifact.save(old, force=True)
    assert calls
    assert content(old) == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert artifact.path == answer, "an artifact that was not saved stays where it was"
    artifact.save(old, force=True)
    assert content(old) != before


def test_nothing_is_left_after_artifacts_are_gone(temporary: Path) -> None:
    made = [compiled(), compiled(target="cpu-int8")]
    assert len(list(temporary.iterdir())) == 2
    made.clear()
    gc.collect()
    assert list(temporary.iterdir()) == []
