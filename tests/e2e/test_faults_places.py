"""Output folders that are special: refused before any work, or taken as they are."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fxc
from fxc.compiler.artifact import check_output
from fxc.compiler.errors import ArtifactError
from fxc.compiler.scratch import aside
from tests.e2e.fault_children import Place, bundles, parent, which


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def refused(path: Path | str, words: str) -> None:
    """By the check before a compile and by the save after it."""
    artifact = fxc.load(bundles()["new"])
    for force in (False, True):
        with pytest.raises(ArtifactError, match=words):
            check_output(path, force=force)
        with pytest.raises(ArtifactError, match=words):
            artifact.save(path, force=force)
    assert artifact.path == bundles()["new"]


@pytest.mark.parametrize(
    "name", ["with space", "naïve 模型 🧠", "two\nlines", "-o", "*", "'$(x)'", "x" * 255]
)
def test_unusual_names(name: str, place: Place) -> None:
    for source in ("old", "new"):
        fxc.load(bundles()[source]).save(place.out.parent / name, force=True)
        assert which(place.out.parent / name) == source
    assert [p.name for p in place.out.parent.iterdir()] == [name]


def test_an_unusual_name_on_the_command_line(place: Place) -> None:
    place.out = place.out.parent / "-two\nlines 模型"
    child = place.compile("old")
    assert child.wait() == 0, child.said
    assert place.found() == "old"
    refused = place.compile("old")
    assert refused.wait() == 1
    assert "already holds an artifact" in refused.said


@pytest.mark.parametrize("name", ["x" * 256, "nul\0", "a/" * 3000 + "b", "\ud800"])
def test_names_that_no_folder_can_have(name: str, place: Place) -> None:
    refused(place.out / name, "cannot write the output folder")
    refused(f"{place.out}/{name}", "cannot write the output folder")
    assert place.litter() == []


def test_the_current_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced, it would be gone under the feet of the user's shell."""
    monkeypatch.chdir(place.out.parent)
    for path in (".", "", place.out.parent, "../place"):
        refused(path, "folder that you are in")
    place.put("old")
    monkeypatch.chdir(place.out)
    refused(".", "folder that you are in")
    assert place.found() == "old"


def test_a_current_folder_that_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.out.mkdir()
    monkeypatch.chdir(place.out)
    place.out.rmdir()
    refused("bundle", "cannot write the output folder")
    assert fxc.load(bundles()["new"]).save(place.out.parent / "bundle").exists()


def test_a_mount_point() -> None:
    refused("/proc", "mount point")


def test_a_file_and_links(place: Place) -> None:
    place.put("old")
    (place.folder / "file").write_text("x")
    (place.folder / "link").symlink_to(place.out)
    (place.folder / "nowhere").symlink_to(place.folder / "not there")
    for name in ("file", "link", "nowhere"):
        refused(place.folder / name, "not a folder")
    refused(place.folder / "file" / "below", "Not a directory")
    # A link to a folder may be on the way.
    (place.folder / "way").symlink_to(place.out.parent)
    fxc.load(bundles()["new"]).save(place.folder / "way" / "out", force=True)
    assert place.found() == "new"


def test_inside_another_bundle(place: Place) -> None:
    place.put("old")
    for path in (place.out / "new", place.out / "golden" / "new", place.out / "deep" / "new"):
        refused(path, "inside another bundle")
    assert place.found() == "old"


def test_a_save_onto_itself(place: Place) -> None:
    place.put("old")
    artifact = fxc.load(place.out)
    assert artifact.save(place.out) == place.out
    assert artifact.save(os.path.relpath(place.out), force=True)
    assert place.found() == "old"


def test_a_work_folder_that_somebody_removed(place: Place) -> None:
    place.put("old")
    artifact = fxc.load(place.out)
    place.put(None)
    for path in (place.folder / "copy", bundles()["new"]):
        with pytest.raises(ArtifactError):
            artifact.save(path, force=True)
    assert which(bundles()["new"]) == "new"
    assert not (place.folder / "copy").exists()


def test_nothing_is_added_to_a_bundle(place: Place) -> None:
    place.put("old")
    np.save(place.folder / "x.npy", np.zeros((1, 3, 16, 16), dtype=np.float32))
    words = ("run", place.out, place.folder / "x.npy", "-o", place.out / "y.npy")
    child = parent().start(*words, temporary=place.temporary)
    assert child.wait() == 1
    assert "inside another bundle" in child.said
    assert place.found() == "old"


def test_a_dump_in_the_way_of_the_output(place: Place) -> None:
    """Told before the compile, not when the bundle cannot be put in place after it."""
    for folder in (place.out, place.out / "dump"):
        child = place.compile("new", "--dump", str(folder))
        assert child.wait() == 1
        assert "inside the output" in child.said
        assert "capture" not in child.said
    assert place.found() is None


def test_one_target_does_not_replace_several(place: Place) -> None:
    place.out.mkdir()
    (place.out / "targets.json").write_text("{}")
    for more in ((), ("-t", "ort-fp32")):
        child = place.compile("new", *more, "--force")
        assert child.wait() == 1
        assert "files that fxc did not write" in child.said
        assert ("capture" in child.said) is bool(more), (
            "a folder of the other kind is refused before any work"
        )


def test_a_kill_between_two_renames(place: Place) -> None:
    """Where the system cannot exchange two folders in one step, the old one may be beside its place: that is told."""
    place.put("old")
    left = aside(place.out)
    place.out.rename(left)
    with pytest.raises(ArtifactError) as caught:
        fxc.load(place.out)
    assert f"rename {left} to out" in str(caught.value)
    left.rename(place.out)
    assert place.found() == "old"


def test_a_manifest_that_is_a_pipe(place: Place) -> None:
    """Reading it would wait for ever."""
    place.put("old")
    (place.out / "manifest.json").unlink()
    os.mkfifo(place.out / "manifest.json")
    with pytest.raises(ArtifactError, match="not a file"):
        fxc.load(place.out)


def test_a_result_that_cannot_be_written() -> None:
    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "fxc.tools.cli.main", "targets", *more]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "error: cannot write the result",
            "  why:   No space left on device",
        ]


def test_dumps(place: Place) -> None:
    (place.folder / "file").write_text("x")
    (place.folder / "mine").mkdir()
    (place.folder / "mine" / "thesis.tex").write_text("years of work")
    for name in ("file", "file/below", "mine"):
        child = place.compile("new", "--dump", str(place.folder / name))
        assert child.wait() == 1
        assert "Traceback" not in child.said
        assert name.split("/")[0] in child.said
    assert place.found() is None
    assert place.litter() == []
    child = place.compile("new", "--dump", str(place.folder / "dump two\nlines"))
    assert child.wait() == 0, child.said
    assert (place.folder / "dump two\nlines" / "index.html").is_file()
