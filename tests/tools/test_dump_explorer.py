"""The explorer: files, page and errors."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from fxc.compiler.errors import ArtifactError
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Note, Program
from fxc.compiler.text import program_text
from fxc.tools.dump import DumpInstrument, explorer
from tests.tools.dump_graphs import Maker, aten, conv_bn_relu, conv_tensors


@dataclass(frozen=True)
class Put(Pass):
    """Returns a given program."""

    name: ClassVar[str] = "put"
    make: Callable[[], Program] | None = None
    notes: tuple[Note, ...] = ()

    def apply(self, program: Program) -> PassResult:
        new = self.make() if self.make else program
        return PassResult(new, self.make is not None, self.notes)

    def text(self) -> str:
        return "put{}"


@dataclass(frozen=True)
class Fail(Pass):
    """Fails."""

    name: ClassVar[str] = "fail"

    def apply(self, program: Program) -> PassResult:
        raise RuntimeError("no")


def data_of(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def unpack(step: dict[str, Any]) -> dict[str, Any]:
    return json.loads(zlib.decompress(base64.b64decode(step["payload"])))


@pytest.fixture
def tensors() -> dict[str, Any]:
    return conv_tensors()


def test_files_are_numbered_by_pass_and_the_page_lists_every_pass(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    start = conv_bn_relu(tensors, norm=True)
    after = conv_bn_relu(tensors, norm=False)
    note = Note("declined", "shared weight", "block.conv")
    steps = (Put(notes=(note,)), Put(lambda: after), Put())
    run_pipeline(start, steps, [DumpInstrument(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "00-capture.svg", "00-capture.txt", "02-put.svg", "02-put.txt", "index.html",
    ]  # fmt: skip
    assert (tmp_path / "00-capture.txt").read_text() == program_text(start)
    rows = data_of((tmp_path / "index.html").read_text())
    assert [(r["number"], r["name"], r["modified"]) for r in rows] == [
        (0, "capture", True), (1, "put", False), (2, "put", True), (3, "put", False),
    ]  # fmt: skip
    assert (rows[2]["added"], rows[2]["removed"], rows[2]["changed"], rows[2]["rewired"]) == (0, 1, 0, 1)
    assert rows[1]["notes"] == [["declined", "block.conv: shared weight"]]
    assert rows[1]["payload"] == ""
    shown = unpack(rows[2])
    assert shown["svg"] == (tmp_path / "02-put.svg").read_text()
    assert shown["text"] == program_text(after)
    assert any(line.startswith("-%norm = batch_norm") for line in shown["diff"])
    ElementTree.fromstring(shown["svg"])


def test_pipelines_in_turn_continue_the_numbers(tmp_path: Path, tensors: dict[str, Any]) -> None:
    start, after = conv_bn_relu(tensors, norm=True), conv_bn_relu(tensors, norm=False)
    dump = DumpInstrument(tmp_path)
    middle = run_pipeline(start, (Put(lambda: after),), [dump])
    run_pipeline(middle, (Put(),), [dump])
    run_pipeline(start, (), [dump])
    rows = data_of((tmp_path / "index.html").read_text())
    names = ["capture", "put", "put", "between"]
    assert [(r["number"], r["name"]) for r in rows] == list(enumerate(names))


def test_the_page_is_there_when_a_later_pass_fails(tmp_path: Path, tensors: dict[str, Any]) -> None:
    after = conv_bn_relu(tensors, norm=False)
    with pytest.raises(RuntimeError, match="no"):
        run_pipeline(
            conv_bn_relu(tensors, norm=True), (Put(lambda: after), Fail()), [DumpInstrument(tmp_path)]
        )
    assert [r["name"] for r in data_of((tmp_path / "index.html").read_text())] == ["capture", "put"]


class Reader(HTMLParser):
    """Every element with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_hostile_words_stay_data(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=//evil>{{data}}"
    make = Maker(name=hostile)
    start = make.done(make.call(aten.relu.default, make.x, name="a", layer=hostile))
    run_pipeline(start, (Put(notes=(Note("info", hostile, hostile),)),), [DumpInstrument(tmp_path)])
    page = (tmp_path / "index.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert [tag for tag, _ in reader.found].count("script") == 2
    assert not any(name in attributes for _, attributes in reader.found for name in ("src", "href"))
    policy = next(a["content"] for _, a in reader.found if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy is not None
    assert script is not None
    assert policy.startswith("default-src 'none'")
    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy
    assert data_of(page)[1]["notes"] == [["info", f"{hostile}: {hostile}"]]


def test_two_dumps_are_equal_and_the_second_replaces_the_first(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    def dump(*steps: Pass) -> dict[str, bytes]:
        run_pipeline(conv_bn_relu(tensors, norm=True), steps, [DumpInstrument(tmp_path)])
        return {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    change = Put(lambda: conv_bn_relu(tensors, norm=False))
    first = dump(change)
    assert dump(change) == first
    assert set(dump()) == {"00-capture.svg", "00-capture.txt", "index.html"}


def test_a_graph_too_large_for_a_picture_keeps_its_text(
    tmp_path: Path, tensors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "LARGEST_PICTURE", 3)
    run_pipeline(conv_bn_relu(tensors, norm=True), (), [DumpInstrument(tmp_path)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-capture.txt", "index.html"]
    (row,) = data_of((tmp_path / "index.html").read_text())
    assert "5 nodes are more than 3" in row["remark"]
    assert unpack(row)["svg"] is None


def test_a_file_in_the_way_is_refused_before_work_starts(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for bad in (taken, taken / "below"):
        with pytest.raises(ArtifactError) as error:
            DumpInstrument(bad)
        assert str(bad) in str(error.value)
    assert taken.read_text() == "mine"


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "00-capture.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="other files"):
        DumpInstrument(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["00-capture.txt"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc, where even root cannot make a folder")
def test_a_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot be used"):
        DumpInstrument(Path("/proc/fxc-dump"))


def test_a_disk_that_fills_up_is_reported_and_leaves_no_part(
    tmp_path: Path, tensors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = DumpInstrument(tmp_path)

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ArtifactError, match="cannot be written") as error:
        dump.begin(conv_bn_relu(tensors, norm=True))
    assert "No space left" in str(error.value)
    assert list(tmp_path.iterdir()) == []
