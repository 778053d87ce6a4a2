"""``fxc toolchain``: what it writes, says and refuses."""

import json
import sys
from pathlib import Path

import pytest

from fxc.toolchains import TOOLCHAINS
from fxc.tools.cli.main import main
from tests.compiler.tiny_kit import TINY, wheel, without_network
from tests.house.test_imports import COMMAND, HEAVY, modules_after

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="toolkits that live apart run on Linux")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FXC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main(["toolchain", "list", "--json"]) == 0
    return list(json.loads(capsys.readouterr().out)["toolchains"])


def test_listing_an_empty_cache_makes_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys)
    assert [row["name"] for row in rows] == list(TOOLCHAINS)
    assert {row["state"] for row in rows} == {"missing"}
    assert main(["toolchain", "list"]) == 0
    told = capsys.readouterr().out
    assert "rknn: fxc toolchain install rknn" in told
    assert str(cache / "toolchains" / "rknn") in told
    assert not cache.exists()


def test_a_toolchain_comes_and_goes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path / "wheels")
    without_network(tmp_path / "wheels", monkeypatch)
    monkeypatch.setitem(TOOLCHAINS, TINY.name, "tests.compiler.tiny_kit:TINY")
    assert main(["toolchain", "install", "tiny", "--json"]) == 0
    out, err = capsys.readouterr()
    installed = json.loads(out)
    assert installed["version"] == "1.0"
    assert installed["folder"] == str(cache / "toolchains" / "tiny")
    assert [word for word in ("environment: ", "packages: ", "verify: ") if word not in err] == []
    row = listed(capsys)[-1]
    assert (row["name"], row["state"], row["version"]) == ("tiny", "ready", "1.0")
    assert row["size"] == installed["size"]
    assert main(["toolchain", "remove", "tiny"]) == 0
    assert "removed" in capsys.readouterr().out
    assert listed(capsys)[-1]["state"] == "missing"
    assert main(["toolchain", "remove", "tiny"]) == 0
    assert "is not installed" in capsys.readouterr().out


def test_a_failed_installation_is_one_error_and_is_listed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wheels").mkdir()
    without_network(tmp_path / "wheels", monkeypatch)
    monkeypatch.setitem(TOOLCHAINS, TINY.name, "tests.compiler.tiny_kit:TINY")
    assert main(["toolchain", "install", "tiny", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["error"] == "ToolchainError"
    assert document["fix"]
    row = listed(capsys)[-1]
    assert (row["state"], row["why"]) == ("incomplete", "an installation of it did not end")


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_an_unknown_name_is_told_its_neighbours(
    verb: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["toolchain", verb, "rkn"]) == 1
    assert "one of: rknn" in capsys.readouterr().err
    assert not cache.exists()


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toolchain", "install"]) == 2
    assert main(["toolchain", "instal", "rknn"]) == 2
    assert main(["toolchain", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("install", "list", "remove"))
    assert main(["--help"]) == 0
    assert "toolchain" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["toolchain", "list"], ["toolchain", "--help"]])
def test_it_is_free_of_torch(words: list[str], cache: Path) -> None:
    assert modules_after(COMMAND.format(words=words)).isdisjoint(HEAVY)
