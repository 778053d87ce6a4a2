"""What killed processes left goes after a day; what lives, is young, or is not ours stays."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fxc.compiler import scratch
from fxc.compiler.scratch import STALE_SECONDS, WorkFolder, locked, moved_aside, remove_stale

LEFT = ("fxc-compile-123-ab_d4fgh", "fxc-pt2-9-12345678", ".fxc-new-77-0123abcd")
FOREIGN = (
    "fxc", "fxc-", "fxc-reproducer-ab_d4fgh", "fxc-compile-ab_d4fgh", "fxc-compile-123-ab_d4fghi", "fxc-Work-1-12345678",
    "my-fxc-compile-123-ab_d4fgh", ".fxc-new-77-0123abcd.bak", "tmpab_d4fgh",
)  # fmt: skip


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def make(folder: Path, *, age: float = STALE_SECONDS + 60) -> Path:
    (folder / "golden").mkdir(parents=True)
    (folder / "golden" / "x").write_text("x")
    grow_old(folder, age)
    return folder


def grow_old(folder: Path, age: float = STALE_SECONDS + 60) -> None:
    os.utime(folder, (time.time() - age,) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_old_ones_and_only_our_own(tmp_path: Path) -> None:
    for name in (*LEFT, *FOREIGN):
        make(tmp_path / name)
    make(tmp_path / "fxc-compile-4-12345678", age=STALE_SECONDS - 60)
    make(tmp_path / "fxc-compile-5-12345678", age=-3600)
    remove_stale(tmp_path)
    assert names(tmp_path) == {*FOREIGN, "fxc-compile-4-12345678", "fxc-compile-5-12345678"}


def test_a_new_one_removes_old_ones(temporary: Path) -> None:
    make(temporary / LEFT[0])
    work = WorkFolder("compile")
    assert names(temporary) == {Path(work.name).name}
    assert Path(work.name).name.startswith(f"fxc-compile-{os.getpid()}-")
    work.cleanup()
    work.cleanup()
    assert names(temporary) == set()


def test_one_in_use_stays_however_old(temporary: Path) -> None:
    work = WorkFolder("compile")
    grow_old(Path(work.name))
    remove_stale(temporary)
    assert Path(work.name).is_dir()
    other = make(temporary / LEFT[2])
    with locked(other):
        remove_stale(temporary)
        assert other.is_dir()
    remove_stale(temporary)
    assert not other.exists()
    del work
    gc.collect()
    assert names(temporary) == set()


HOLD = """
import sys, tempfile
from fxc.compiler.scratch import WorkFolder
tempfile.tempdir = sys.argv[1]
work = WorkFolder("compile")
print(work.name, flush=True)
sys.stdin.read()
"""


def test_one_in_use_by_another_process(temporary: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(temporary)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        work = Path(process.stdout.readline().strip())
        grow_old(work)
        remove_stale(temporary)
        assert work.is_dir()
        process.kill()
        process.wait()
    assert work.is_dir()
    remove_stale(temporary)
    assert names(temporary) == set()


def test_links_are_not_followed(tmp_path: Path) -> None:
    mine, place = make(tmp_path / "mine"), tmp_path / "temporary"
    place.mkdir()
    (place / LEFT[0]).symlink_to(mine)
    inside = make(place / LEFT[1])
    (inside / "link").symlink_to(mine)
    grow_old(inside)
    (place / LEFT[2]).write_text("a file")
    grow_old(place / LEFT[2])
    remove_stale(place)
    assert names(place) == {LEFT[0], LEFT[2]}
    assert (mine / "golden" / "x").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_other_users_keep_theirs(tmp_path: Path) -> None:
    os.chown(make(tmp_path / LEFT[0]), 12345, -1)
    grow_old(tmp_path / LEFT[0])
    remove_stale(tmp_path)
    assert names(tmp_path) == {LEFT[0]}


def test_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save lasts seconds, so age tells; an artifact can live for days, so it does not."""

    def flock(handle: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(scratch.fcntl, "flock", flock)
    for name in LEFT:
        make(tmp_path / name)
    remove_stale(tmp_path)
    assert names(tmp_path) == set(LEFT[:2])


def test_a_failure_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_stale(tmp_path / "nowhere")
    make(tmp_path / LEFT[0])
    monkeypatch.setattr(scratch.os, "open", lambda *words: (_ for _ in ()).throw(PermissionError(13, "no")))
    remove_stale(tmp_path)
    assert names(tmp_path) == {LEFT[0]}


def test_what_was_moved_aside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert moved_aside(out) is None
    old = make(scratch.aside(out))
    remove_stale(tmp_path)
    assert moved_aside(out) == old, "the only copy stays"
    out.mkdir()
    remove_stale(tmp_path)
    assert moved_aside(out) is None
