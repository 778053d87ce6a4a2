"""``DumpInstrument``: writes the graph after every pass as text and picture, and a page to step through them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from fxc.compiler.errors import ArtifactError
from fxc.compiler.instruments import Instrument
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.program import Note, Program
from fxc.compiler.text import program_text
from fxc.tools.dump.diff import Difference, compare
from fxc.tools.dump.facts import Operator, operators
from fxc.tools.dump.page import MARK, Step, index_html, pack
from fxc.tools.dump.scene import build_scene
from fxc.tools.dump.svg import scene_svg
from fxc.tools.dump.textdiff import unified

LARGEST_PICTURE = 3000
"""Nodes, removed ones included; beyond it a picture helps nobody and takes long."""

_OWN_FILE = re.compile(r"\d{2,}-[\w.-]+\.(txt|svg)|index\.html")


@dataclass(frozen=True)
class _State:
    """The graph last seen."""

    program: Program
    operators: dict[str, Operator]
    text: str


@dataclass
class DumpInstrument(Instrument):
    """Writes ``00-capture.txt`` and ``.svg``, ``01-<pass>.txt`` and ``.svg``, …, and ``index.html`` into a folder.

    A pass that changed nothing gets a row in the page and no files. The page is written anew after every pass, so it
    is there when a later one fails. The same instrument may watch several pipelines in turn: the numbers go on.

    Attributes:
        directory: made if missing; a dump that is there already is replaced.

    Raises:
        ArtifactError: at construction, if the folder cannot be written or holds something other than a dump.
    """

    directory: Path
    _steps: list[Step] = field(default_factory=list)
    _last: _State | None = None

    def __post_init__(self) -> None:
        self.directory = Path(self.directory)
        _prepare(self.directory)

    def begin(self, program: Program) -> None:
        """Record the graph that the first pass gets, unless it is the one shown last."""
        self._catch_up("between", program)

    def before(self, step: Pass, program: Program) -> None:
        """Record work done outside of any pass, if there was any."""
        self._catch_up("between", program)

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Record what a pass made."""
        if result.modified:
            self._record(step.name, step.text(), result.program, result.notes)
        else:
            self._add(Step(len(self._steps), step.name, step.text(), False, notes=_notes(result.notes)))

    def end(self, program: Program) -> None:
        """Record work done after the last pass, if there was any."""
        self._catch_up("end", program)

    def _catch_up(self, name: str, program: Program) -> None:
        if self._last is None:
            self._record("capture", "capture", program, ())
        elif self._last.program.graph_module is not program.graph_module:
            self._record(name, "work outside of any pass", program, ())

    def _record(self, name: str, text: str, program: Program, notes: tuple[Note, ...]) -> None:
        last = self._last
        state = _State(program, operators(program), program_text(program))
        before = last.operators if last else {}
        difference = compare(before, state.operators) if last else Difference()
        number = len(self._steps)
        stem = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_]+', '-', name)}"
        svg, remark = _picture(f"{number:02d}  {name}  ·  {program.name}", state, before, difference)
        self._write(f"{stem}.txt", state.text)
        if svg is not None:
            self._write(f"{stem}.svg", svg)
        self._last = state
        self._add(
            Step(
                number,
                name,
                text,
                True,
                added=len(difference.added),
                removed=len(difference.removed),
                changed=len(difference.rewritten),
                rewired=len(difference.rewired),
                notes=_notes(notes),
                files=(f"{stem}.txt", *([f"{stem}.svg"] if svg is not None else [])),
                remark=remark,
                payload=pack(svg, unified(last.text, state.text) if last else [], state.text),
            )
        )

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        name = self._last.program.name if self._last else "model"
        self._write("index.html", index_html(name, self._steps))

    def _write(self, name: str, text: str) -> None:
        """Write a file whole or not at all: a page that is open while a compile runs stays readable."""
        partial = self.directory / f".{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8", errors="replace", newline="\n")
            partial.replace(self.directory / name)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ArtifactError(
                "the dump cannot be written", where=str(self.directory / name), why=str(error)
            ) from error


def _picture(
    title: str, state: _State, before: dict[str, Operator], difference: Difference
) -> tuple[str | None, str]:
    """The SVG, or none and a line that says why."""
    drawn = len(state.operators) + len(difference.removed)
    if drawn > LARGEST_PICTURE:
        return None, f"no picture: {drawn} nodes are more than {LARGEST_PICTURE}; the text is complete"
    return scene_svg(build_scene(state.operators, before, difference), title), ""


def _notes(notes: tuple[Note, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((note.kind, f"{note.layer}: {note.text}" if note.layer else note.text) for note in notes)


def _prepare(directory: Path) -> None:
    """Make the folder, check that it can be written, and clear an older dump from it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        present = sorted(path.name for path in directory.iterdir())
        if present and not _is_dump(directory):
            raise ArtifactError(
                "the folder for the dump holds other files",
                where=str(directory),
                why=f"it has {present[0]} and no index.html of a dump; a dump replaces what an older one left",
                fix="name a new or an empty folder",
            )
        probe = directory / ".writable"
        probe.write_text("", encoding="utf-8")
        probe.unlink()
        for name in present:
            if _OWN_FILE.fullmatch(name) and name != "index.html":
                (directory / name).unlink()
    except OSError as error:
        raise ArtifactError(
            "the folder for the dump cannot be used",
            where=str(directory),
            why=error.strerror or str(error),
            fix="name a folder that can be made and written",
        ) from error


def _is_dump(directory: Path) -> bool:
    index = directory / "index.html"
    return index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:2000]
