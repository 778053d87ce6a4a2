"""Bundles that were changed, cut or written over: refused with the file's name, and never a lost artifact."""

import copy as copying
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import fxc
from fxc.compiler.errors import ArtifactError, CaptureError, FxcError
from tests.compiler import hostile_pt2
from tests.e2e.nets import compiled, content


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled().save(tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def refused(folder: Path, name: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        fxc.load(folder)
    assert name in str(caught.value)


def test_one_flipped_bit_in_any_file(copy: Path) -> None:
    for name, data in content(copy).items():
        if name == "timings.json":
            continue
        for place in (0, len(data) // 2, len(data) - 1):
            changed = bytearray(data)
            changed[place] ^= 1
            (copy / name).write_bytes(changed)
            refused(copy, name)
        (copy / name).write_bytes(data)
    fxc.load(copy)


def test_any_file_cut_short_emptied_or_gone(copy: Path) -> None:
    for name, data in content(copy).items():
        if name == "timings.json":
            continue
        for cut in (data[:-2], data[: len(data) // 2], b""):
            (copy / name).write_bytes(cut)
            refused(copy, name)
        (copy / name).unlink()
        refused(copy, name)
        (copy / name).write_bytes(data)
    fxc.load(copy)


def test_any_word_of_the_manifest_changed(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())

    def changes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, dict):
            for key in value:
                yield from changes(value[key], (*path, key))
        elif isinstance(value, list) and value:
            yield from changes(value[0], (*path, 0))
        else:
            yield path

    paths = list(changes(manifest))
    assert len(paths) > 30
    for path in paths:
        changed = copying.deepcopy(manifest)
        place = functools.reduce(lambda value, key: value[key], path[:-1], changed)
        place[path[-1]] = 7 if place[path[-1]] != 7 else 8
        (copy / "manifest.json").write_text(json.dumps(changed))
        refused(copy, "manifest.json")


def test_timings_are_not_hashed_but_must_be_readable_json(copy: Path) -> None:
    (copy / "timings.json").unlink()
    assert fxc.load(copy).timings == {}
    (copy / "timings.json").write_text("{")
    refused(copy, "timings.json")


@pytest.mark.parametrize("name", ["extra.txt", "golden/extra.bin", "new/file", ".hidden"])
def test_one_file_too_many(name: str, copy: Path) -> None:
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("x")
    refused(copy, name)


def test_a_link_in_place_of_a_file(copy: Path, tmp_path: Path) -> None:
    (copy / "model.onnx").rename(tmp_path / "elsewhere")
    (copy / "model.onnx").symlink_to(tmp_path / "elsewhere")
    refused(copy, "model.onnx")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is no bundle here")
    refused(tmp_path, "it has no manifest.json")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "there is no bundle here")


def test_an_existing_artifact_is_kept_unless_forced(copy: Path) -> None:
    before = content(copy)
    other = compiled(target="ort-fp32")
    with pytest.raises(ArtifactError) as caught:
        other.save(copy)
    assert "already holds an artifact" in str(caught.value)
    assert "force=True" in str(caught.value)
    assert content(copy) == before
    other.save(copy, force=True)
    assert fxc.load(copy).manifest["target"]["name"] == "ort-fp32"
    assert [p.name for p in copy.parent.iterdir()] == ["bundle"]


def test_a_damaged_artifact_can_be_replaced(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"")
    compiled().save(copy, force=True)
    fxc.load(copy)


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(ArtifactError) as caught:
            compiled().save(folder, force=force)
        assert "files that fxc did not write" in str(caught.value)
    assert content(folder) == {"thesis.tex": b"years of work"}


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    artifact = compiled()
    for place in (tmp_path / "file", tmp_path / "file" / "bundle", Path("/proc/fxc/bundle")):
        with pytest.raises(ArtifactError) as caught:
            artifact.save(place)
        assert str(place) in str(caught.value)
    assert content(tmp_path) == {"file": b"in the way"}
    artifact.save(tmp_path / "bundle")


def test_a_temporary_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ArtifactError) as caught:
        compiled()
    assert "TMPDIR" in str(caught.value)


FULL = """
import resource, signal, sys
import fxc
from fxc.compiler.errors import ArtifactError
from tests.e2e.nets import compiled
artifact = compiled("conv_chain", "ort-int8")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for step in (lambda: artifact.save(sys.argv[1]), lambda: compiled("conv_chain", "ort-fp32")):
    try:
        step()
    except ArtifactError as error:
        print("refused:", error)
"""


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    # No file may grow beyond 4,000 bytes: what a full disk does, also to root.
    old = compiled("conv_chain", "ort-fp32").save(tmp_path / "other")
    (tmp_path / "temporary").mkdir()
    environment = {
        "PYTHONPATH": str(Path.cwd()),
        "TMPDIR": str(tmp_path / "temporary"),
        "OMP_NUM_THREADS": "1",
        # Python does not notice that a cached module was cut short, and every later process would read the stump.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", FULL, str(tmp_path / "bundle")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused: cannot write") == 2, done.stdout
    assert str(tmp_path / "bundle") in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "temporary"]
    assert list((tmp_path / "temporary").glob("fxc-*")) == []
    fxc.load(old)


@pytest.mark.parametrize("route", hostile_pt2.ROUTES)
def test_a_hostile_pt2_runs_nothing(route: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    genuine = hostile_pt2.genuine(tmp_path / "genuine.pt2")
    attack = hostile_pt2.ROUTES[route]
    evil = hostile_pt2.rewrite(genuine, tmp_path / "evil.pt2", lambda members: attack(members, marker))
    if route == "guard":
        # Every file has guards, so they are dropped, not refused.
        fxc.compile(str(evil), "ort-fp32")
    else:
        with pytest.raises(FxcError) as caught:
            fxc.compile(str(evil), "ort-int8")
        assert "evil.pt2" in str(caught.value)
    assert not marker.exists()


def test_a_genuine_pt2_compiles(tmp_path: Path) -> None:
    path = hostile_pt2.genuine(tmp_path / "genuine.pt2")
    artifact = fxc.compile(path, "ort-int8", calibration_data=[torch.randn(4, 3, 8, 8)])
    assert set(artifact(torch.randn(3, 3, 8, 8))) == {"map", "flat"}


def test_files_that_are_no_pt2(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("hello")
    for path in (tmp_path / "text.pt2", tmp_path / "gone.pt2"):
        with pytest.raises((ArtifactError, CaptureError)) as caught:
            fxc.compile(path, "ort-int8")
        assert path.name in str(caught.value)
