"""Who watches a compile: timer, journal, promise checks, and the dump if one was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxc.catalogue import resolve
from fxc.compiler.instruments import Instrument, Journal, Timer, Verify
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program


class Watch:
    """The instruments of one compile, over its several pipelines."""

    def __init__(self, *, verify: bool, dump: Path | None):
        self.dump = dump
        self.timer = Timer()
        self.verify = Verify() if verify else None
        self.journal = Journal()
        self._dumper = None if dump is None else resolve("fxc.tools.dump.explorer:DumpInstrument")(dump)

    @property
    def all(self) -> list[Instrument]:
        """Every instrument."""
        return [i for i in (self.timer, self.journal, self.verify, self._dumper) if i is not None]

    def fork(self, name: str) -> Watch:
        """A watch for one of several targets: it knows what was done for all, and dumps into a folder of its own."""
        other = Watch(verify=False, dump=self.dump / name if self.dump is not None else None)
        other.timer, other.journal = deepcopy(self.timer), deepcopy(self.journal)
        other.verify = self.verify.fork() if self.verify is not None else None
        return other

    def begin(self, program: Program) -> None:
        """Before the first pipeline."""
        for instrument in self.all:
            instrument.begin(program)

    def end(self, program: Program) -> None:
        """After the last one."""
        for instrument in self.all:
            instrument.end(program)

    def run(self, program: Program, passes: Iterable[Pass]) -> Program:
        """Run passes under all instruments."""
        return run_pipeline(program, passes, [_Inner(i) for i in self.all])


@dataclass
class _Inner(Instrument):
    """Forwards passes, not beginnings and ends: one compile runs several pipelines."""

    outer: Instrument

    def before(self, step: Pass, program: Program) -> None:
        self.outer.before(step, program)

    def after(self, step: Pass, before: Program, result: Any) -> None:
        self.outer.after(step, before, result)
