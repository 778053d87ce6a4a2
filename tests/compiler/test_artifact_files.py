"""Folders appear whole or not at all, and what was there stays unless it was ours to replace."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fxc.compiler import folders
from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import json_text, read_json, regular_files, safe_relative, sha256, write_json
from fxc.compiler.folders import ensure_writable, replacing_directory
from fxc.compiler.scratch import STALE_SECONDS


def ours(path: Path) -> bool:
    return (path / "ours").exists()


def fill(path: Path, text: str, *, force: bool = False) -> None:
    with replacing_directory(path, force=force, removable=ours) as folder:
        (folder / "ours").write_text(text)


def interrupted(path: Path, error: type[BaseException], *, force: bool) -> None:
    with replacing_directory(path, force=force, removable=ours) as folder:
        (folder / "ours").write_text("half")
        raise error


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_new_folder_with_its_parents(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b" / "out", "1")
    assert names(tmp_path / "a" / "b") == ["out"]
    assert (tmp_path / "a/b/out/ours").read_text() == "1"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "1")
    assert names(tmp_path / "out") == ["ours"]


def test_existing_is_kept_without_force_and_replaced_with_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "1")
    (out / "more").write_text("x")
    with pytest.raises(ArtifactError, match="already holds"):
        fill(out, "2")
    assert (out / "ours").read_text() == "1"
    fill(out, "2", force=True)
    assert names(out) == ["ours"]
    assert (out / "ours").read_text() == "2"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_foreign_files_are_never_deleted(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="did not write"):
        fill(out, "1", force=force)
    with pytest.raises(ArtifactError, match="did not write"):
        ensure_writable(out, force=force, removable=ours)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("force", [False, True])
def test_files_and_links_are_not_folders(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_text("x")
    fill(tmp_path / "real", "1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(ArtifactError, match="not a folder"):
            fill(tmp_path / name, "2", force=force)
    assert (tmp_path / "real/ours").read_text() == "1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_ends_the_block_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    for out, force in ((tmp_path / "new" / "out", False), (tmp_path / "old", True)):
        if force:
            fill(out, "1")
        before = [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))]
        with pytest.raises(error):
            interrupted(out, error, force=force)
        assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == before
    assert (tmp_path / "old/ours").read_text() == "1"


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """A limit on file size makes the kernel refuse the write, as a full disk does."""
    out = tmp_path / "out"
    fill(out, "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with (
            pytest.raises(ArtifactError, match="cannot write") as caught,
            replacing_directory(out, force=True, removable=ours) as folder,
        ):
            (folder / "big").write_bytes(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(out) in str(caught.value)
    assert names(tmp_path) == ["out"]
    assert (out / "ours").read_text() == "1"


def test_no_space_left_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ArtifactError, match="No space left") as caught,
        replacing_directory(tmp_path / "out", force=False, removable=ours),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert "free space" in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("parent", ["/proc/fxc", "file/below"])
def test_where_nothing_can_be_written(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_text("x")
    out = tmp_path / parent / "out"
    with pytest.raises(ArtifactError, match="cannot write") as caught:
        ensure_writable(out, force=False, removable=ours)
    assert str(out) in str(caught.value)
    with pytest.raises(ArtifactError, match="cannot write"):
        fill(out, "1")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArtifactError, match="may write"):
            ensure_writable(tmp_path / "out", force=False, removable=ours)
    finally:
        tmp_path.chmod(0o700)


def test_the_writability_check_leaves_no_trace(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "a" / "b", force=False, removable=ours)
    assert names(tmp_path) == []
    fill(tmp_path / "out", "1")
    with pytest.raises(ArtifactError, match="already holds"):
        ensure_writable(tmp_path / "out", force=False, removable=ours)
    ensure_writable(tmp_path / "out", force=True, removable=ours)
    assert names(tmp_path) == ["out"]


def test_old_leftovers_go_and_young_ones_stay(tmp_path: Path) -> None:
    then = time.time() - STALE_SECONDS - 60
    for name, age in (
        (".fxc-new-1-0123abcd", True),
        (".out.fxc-old-1-0123abcd", True),
        (".fxc-new-2-0123abcd", False),
        (".gone.fxc-old-1-0123abcd", True),
        (".fxc-new-mine", True),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
        if age:
            os.utime(tmp_path / name, (then, then))
    fill(tmp_path / "out", "1")
    assert names(tmp_path) == [
        ".fxc-new-2-0123abcd",
        ".fxc-new-mine",
        ".gone.fxc-old-1-0123abcd",
        ".out.fxc-old-1-0123abcd",
        "out",
    ]
    fill(tmp_path / "out", "2", force=True)
    assert ".out.fxc-old-1-0123abcd" not in names(tmp_path), "its successor is in place"
    assert ".gone.fxc-old-1-0123abcd" in names(tmp_path), "it may be the only copy"


CRASH = """
import os, signal, sys
from pathlib import Path
from fxc.compiler import folders
if sys.argv[2] == "after":
    folders.shutil.rmtree = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
with folders.replacing_directory(Path(sys.argv[1]), force=True, removable=lambda p: True) as folder:
    (folder / "ours").write_text("2")
    if sys.argv[2] == "during":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "left"), [("during", "1"), ("after", "2")])
def test_a_killed_process_leaves_the_old_or_the_new(tmp_path: Path, moment: str, left: str) -> None:
    out = tmp_path / "out"
    fill(out, "1")
    done = subprocess.run([sys.executable, "-c", CRASH, str(out), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (out / "ours").read_text() == left


def test_without_an_exchange_the_old_one_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    fill(out, "1")
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    fill(out, "2", force=True)
    assert (out / "ours").read_text() == "2"
    assert names(tmp_path) == ["out"]
    rename, calls = os.rename, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(folders.os, "rename", failing)
    with pytest.raises(ArtifactError, match="Input/output error"):
        fill(out, "3", force=True)
    assert (out / "ours").read_text() == "2"
    assert names(tmp_path) == ["out"]


def test_json_is_the_same_every_time(tmp_path: Path) -> None:
    assert (
        json_text({"b": 1, "a": [1.5, None, "é"]})
        == '{\n  "a": [\n    1.5,\n    null,\n    "é"\n  ],\n  "b": 1\n}\n'
    )
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))
    write_json(tmp_path / "a.json", {"x": "é"})
    assert read_json(tmp_path / "a.json") == {"x": "é"}
    assert b"\r" not in (tmp_path / "a.json").read_bytes()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a", "a/b.c", ".data/x", "model v2 (1).onnx", "模型.onnx"])
def test_plain_names(name: str) -> None:
    assert safe_relative(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "../a",
        "a/../b",
        "a/./b",
        "a//b",
        "a\\b",
        "C:/x",
        "a\n",
        "a\0b",
        "a/",
        "~/x",
        None,
        3,
        "..",
        ".",
    ],
)
def test_names_that_could_leave_the_folder(name: object) -> None:
    with pytest.raises(ArtifactError):
        safe_relative(name)


def test_only_regular_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b").write_text("abc")
    assert regular_files(tmp_path) == ("d/b",)
    assert sha256(tmp_path / "d/b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "d/link").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match="neither"):
        regular_files(tmp_path)
