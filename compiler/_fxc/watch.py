"""Who watches a compile: timer, journal, promise checks, and the dump if one was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxc import catalogue
from fxc.compiler.instruments import Instrument, Journal, Timer, Verify
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program


class Watch:
    """The instruments of one compile, over its several pipelines."""

    def __init__(self, *, verify: bool, dump: Path | None):
        self.timer = Timer()
        self.verify = Verify() if verify else None
        self.journal = Journal()
        self.all: list[Instrument] = [self.timer, self.journal, *([self.verify] if self.verify else [])]
        if dump is not None:
            self.all.append(catalogue.resolve("fxc.tools.dump.explorer:DumpInstrument")(dump))

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
