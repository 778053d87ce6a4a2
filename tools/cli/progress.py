"""Progress on stderr: a bar on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, "int | None"], None]
"""``report(stage, done, total)``; a new stage name ends the one before."""


@contextmanager
def progress() -> Iterator[Report]:
    """A callback that shows how far the work is, for as long as the block runs."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    described = TextColumn("{task.description}")
    bar = Progress(
        SpinnerColumn(),
        described,
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield _Bars(bar)


class _Lines:
    """Names each stage once."""

    def __init__(self) -> None:
        self._stage: str | None = None

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        if stage != self._stage:
            self._stage = stage
            print(f"{stage} ...", file=sys.stderr, flush=True)


class _Bars:
    """One bar per stage; a stage that has passed stays with its time until the end."""

    def __init__(self, bar: object) -> None:
        from rich.progress import Progress

        assert isinstance(bar, Progress)
        self._bar = bar
        self._stage: str | None = None
        self._task = bar.add_task("", visible=False, count="")

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        if stage != self._stage:
            self._bar.update(self._task, total=1, completed=1)
            self._bar.stop_task(self._task)
            self._task = self._bar.add_task(stage, total=total, count="")
            self._stage = stage
        count = f"{done}/{total}" if total else ""
        self._bar.update(self._task, total=total, completed=done, count=count)
