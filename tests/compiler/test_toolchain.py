"""Where environments are, what they are asked to hold, and how they are removed."""

import json
import os
import sys
from pathlib import Path

import pytest

from fxc.compiler.errors import ToolchainError, UsageError
from fxc.compiler.scratch import aside
from fxc.compiler.toolchain.environment import STAMP, environment, stamp_of, status
from fxc.compiler.toolchain.lock import using
from fxc.compiler.toolchain.places import cache_folder
from fxc.compiler.toolchain.remove import remove
from fxc.compiler.toolchain.spec import Toolchain
from fxc.toolchains import TOOLCHAINS, toolchain, toolchains
from tests.compiler.tiny_kit import TINY

linux = pytest.mark.skipif(sys.platform != "linux", reason="toolkits that live apart run on Linux")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ready environment, made of the files that count."""
    monkeypatch.setenv("FXC_CACHE", str(tmp_path / "cache"))
    env = environment(TINY)
    env.python.parent.mkdir(parents=True)
    env.python.symlink_to(sys.executable)
    (env.folder / STAMP).write_text(json.dumps(stamp_of(TINY, ready=True, version="1.0", size=3)))
    assert status(env).state == "ready"
    return env.folder


@linux
def test_the_cache_is_where_the_user_says_and_else_where_the_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FXC_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FXC_CACHE", "~/own")
    assert cache_folder() == tmp_path / "home" / "own"
    monkeypatch.setenv("FXC_CACHE", "")
    assert cache_folder() == tmp_path / "xdg" / "fxc"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / "home" / ".cache" / "fxc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "fxc"


@pytest.mark.parametrize(
    "text",
    [
        "tiny-kit @ https://example.org/tiny.whl",
        "https://example.org/tiny.whl",
        "--index-url=x",
        "-e .",
        "./tiny.whl",
        "tiny-kit==1.0 --hash=x",
        "",
    ],
)
def test_a_requirement_is_a_package_and_its_versions(text: str) -> None:
    with pytest.raises(UsageError):
        Toolchain("tiny", "tiny-kit", "t", (text,))
    with pytest.raises(UsageError):
        Toolchain("tiny", "tiny-kit", "t", (), (text,))


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".rknn", "a b"])
def test_a_name_is_that_of_a_plain_folder(name: str) -> None:
    with pytest.raises(UsageError):
        Toolchain(name, "tiny-kit", "t", ("tiny-kit",))


def test_every_listed_toolchain_pins_its_toolkit() -> None:
    assert [tool.name for tool in toolchains()] == list(TOOLCHAINS)
    assert all(tool.version and tool.space and tool.pythons and tool.machines for tool in toolchains())
    with pytest.raises(UsageError, match="unknown toolchain 'rkn'") as caught:
        toolchain("rkn")
    assert "rknn" in str(caught.value.fix)


@linux
@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"ready": "yes"}', '{"ready": true}'])
def test_a_damaged_stamp_is_no_stamp(stamp: str, folder: Path) -> None:
    (folder / STAMP).write_text(stamp)
    assert status(environment(TINY)).state == "incomplete"


@linux
def test_removing_takes_the_folder_and_not_what_links_lead_to(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("x")
    (folder / "lib64").symlink_to(outside)
    (folder / "one").symlink_to(outside / "mine")
    (folder / "data").write_bytes(bytes(1000))
    assert 1000 <= remove(TINY) < 3000
    assert (outside / "mine").read_text() == "x"
    assert [p.name for p in folder.parent.iterdir()] == ["tiny.lock"]
    assert status(environment(TINY)).state == "missing"
    assert remove(TINY) == 0


@linux
def test_what_fxc_did_not_make_stays(folder: Path, tmp_path: Path) -> None:
    (folder / STAMP).unlink()
    with pytest.raises(ToolchainError, match="was not made by fxc"):
        remove(TINY)
    assert (folder / "bin").is_dir()


@linux
def test_a_link_in_its_place_stays(folder: Path, tmp_path: Path) -> None:
    os.rename(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert status(environment(TINY)).state == "incomplete"
    with pytest.raises(ToolchainError, match="was not made by fxc"):
        remove(TINY)
    assert (tmp_path / "moved" / STAMP).is_file()
    assert folder.is_symlink()


@linux
def test_what_is_in_use_stays(folder: Path) -> None:
    env = environment(TINY)
    env.lock.touch()
    with using(env.lock), pytest.raises(ToolchainError, match="is in use"):
        remove(TINY)
    assert status(env).state == "ready"
    remove(TINY)
    assert status(env).state == "missing"


@linux
def test_what_an_interrupted_removal_left_goes_with_the_next(folder: Path) -> None:
    left = aside(folder)
    os.rename(folder, left)
    other = folder.parent / ".other.fxc-old-1-00000000"
    other.mkdir()
    assert status(environment(TINY)).state == "missing"
    remove(TINY)
    assert not left.exists()
    assert other.is_dir()
