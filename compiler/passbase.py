"""What a pass is: a frozen value with options, a promise about numbers, and ``apply``."""

from __future__ import annotations

import abc
import dataclasses
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from fxc.compiler.program import Note, Program

_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
"""Text that needs no quotes."""


@dataclass(frozen=True)
class Promise:
    """What a pass promises about the program's outputs.

    Attributes:
        kind: ``"exact"`` (bit for bit), ``"close"`` (float reassociation) or ``"lossy"`` (changes numbers on purpose).
        tolerance: for ``close``, the largest allowed ‖a-b‖₂/‖b‖₂ and max|a-b|/max|b| of any output.
    """

    kind: Literal["exact", "close", "lossy"]
    tolerance: float = 0.0


EXACT = Promise("exact")
CLOSE = Promise("close", 1e-4)
LOSSY = Promise("lossy")


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        program: the new program; the same object as the input when nothing was modified.
        modified: ``False`` promises that nothing changed.
        notes: near misses and remarks, for the report.
    """

    program: Program
    modified: bool
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Pass(abc.ABC):
    """Base of all passes: a frozen dataclass whose fields are its options.

    Class attributes:
        name: text name.
        promise: what holds about numbers.
        requires: facts that must hold on the program; ``ensures``: facts that hold afterwards;
        destroys: facts that may no longer hold afterwards.
    """

    name: ClassVar[str]
    promise: ClassVar[Promise] = EXACT
    requires: ClassVar[frozenset[str]] = frozenset()
    ensures: ClassVar[frozenset[str]] = frozenset()
    destroys: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def apply(self, program: Program) -> PassResult:
        """Transform ``program`` without changing it; the input stays valid."""

    def text(self) -> str:
        """``name{option=value,…}``: the options that differ from their defaults."""
        return pass_text(self)

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Sequence(Pass):
    """Several passes as one; with ``rounds`` > 1 they repeat until nothing changes (at most that often)."""

    name: ClassVar[str] = "sequence"
    passes: tuple[Pass, ...] = field(default=())
    rounds: int = 1

    def apply(self, program: Program) -> PassResult:
        """Apply the passes in order."""
        modified = False
        notes: tuple[Note, ...] = ()
        for _ in range(self.rounds):
            changed = False
            for step in self.passes:
                result = step.apply(program)
                program, changed, notes = result.program, changed or result.modified, notes + result.notes
            modified = modified or changed
            if not changed:
                break
        return PassResult(program, modified, tuple(dict.fromkeys(notes)))


def pass_text(value: Pass) -> str:
    """The text form of a pass."""
    options = []
    for f in dataclasses.fields(value):
        option = getattr(value, f.name)
        if not f.compare:  # data handed to the pass, not an option of it
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if option != default:
            options.append(f"{f.name}={_value_text(option)}")
    return f"{value.name}{{{','.join(options)}}}"


def _value_text(value: object) -> str:
    if callable(text := getattr(value, "text", None)):
        return str(text())
    if isinstance(value, (tuple, list, frozenset)):
        items = sorted(map(_value_text, value)) if isinstance(value, frozenset) else map(_value_text, value)
        return f"[{','.join(items)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]  # type: ignore[index]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value not in ("true", "false", "none") else _quoted(value)
    raise TypeError(f"a pass option cannot be a {type(value).__name__}: {value!r}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
