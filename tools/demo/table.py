"""The demo's answer on a terminal, and the same as a block of the HTML report."""

from __future__ import annotations

import platform
from pathlib import Path

from rich import box
from rich.table import Table

from fxc.tools.demo.outcome import Outcome, examples, rows
from fxc.tools.report import Measured


def table(outcomes: list[Outcome], about: str) -> Table:
    """One table: a block of rows for each target."""
    result = Table(
        title="fxc on handwritten digits", caption=about, caption_justify="left", box=box.SIMPLE_HEAD
    )
    result.add_column("", no_wrap=True)
    for head in ("float", "compiled", "change"):
        result.add_column(head, justify="right", no_wrap=True)
    result.add_column("bar", no_wrap=True)
    for outcome in outcomes:
        result.add_section()
        result.add_row("[bold]target[/]", f"[bold]{outcome.reference}[/]", f"[bold]{outcome.target}[/]")
        for row in rows(outcome):
            mark = {None: "", True: "[green]✓[/] ", False: "[bold red]✗[/] "}[row.held]
            result.add_row(row.what, row.before, row.after, row.change, mark + row.bar)
    return result


def stand_ins(outcomes: list[Outcome]) -> str:
    """What answered for the chips that are not here."""
    return " ".join(f"For {o.target} answered {o.elsewhere}." for o in outcomes if o.elsewhere)


def stage_line(outcome: Outcome) -> str:
    """The compile's stages with their seconds, in order."""
    parts = " · ".join(f"{stage} {seconds:.2f}" for stage, seconds in outcome.stages.items())
    return f"compile for {outcome.target}, seconds: {parts}"


def measured(outcome: Outcome, about: str) -> Measured:
    """The same rows for the report page."""
    found = examples(outcome)
    return Measured(
        title=f"Measured on {outcome.answers.images:,} handwritten digits, each held out once",
        how=about,
        rows=rows(outcome),
        stages=outcome.stages,
        examples=found,
        examples_title=f"Digits on which the two differ or are wrong ({len(found)} of {len(outcome.answers.examples)})",
    )


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
