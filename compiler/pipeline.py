"""Running a pipeline: a plain tuple of passes, watched by instruments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fxc.compiler.errors import PassError
from fxc.compiler.instruments import Instrument, StopAfter
from fxc.compiler.passbase import Pass
from fxc.compiler.program import Program


def run_pipeline(program: Program, passes: Iterable[Pass], instruments: Iterable[Instrument] = ()) -> Program:
    """Apply ``passes`` in order.

    Args:
        program: left unchanged.
        passes: a pipeline.
        instruments: told before and after every pass; one that raises stops the run.

    Returns:
        The transformed program, with every pass's notes and, in ``history``, the text of those that modified it.

    Raises:
        PassError: a pass ran before what it requires, or broke its promise.
    """
    watchers = tuple(instruments)
    for watcher in watchers:
        watcher.begin(program)
    for step in passes:
        if any(isinstance(w, StopAfter) and w.seen >= w.count for w in watchers):
            break
        program = _run_one(program, step, watchers)
    for watcher in watchers:
        watcher.end(program)
    return program


def _run_one(program: Program, step: Pass, watchers: tuple[Instrument, ...]) -> Program:
    missing = step.requires - program.facts
    if missing:
        raise PassError(
            f"{step.text()} requires {', '.join(sorted(missing))}", fix="run the passes that ensure it first"
        )
    for watcher in watchers:
        watcher.before(step, program)
    result = step.apply(program)
    for watcher in watchers:
        watcher.after(step, program, result)
    facts = (result.program.facts - step.destroys if result.modified else program.facts) | step.ensures
    history = program.history + ((step.text(),) if result.modified else ())
    return replace(result.program, facts=facts, history=history).note(*result.notes)


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The pipeline's text form; :func:`fxc.compiler.passtext.parse_pipeline` reads it back."""
    return ",".join(step.text() for step in passes)
