"""The stages of a compile: timed, and told to whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = (
    "capture",
    "canonicalize",
    "optimize",
    "legalize",
    "synthesize",
    "annotate",
    "calibrate",
    "quantize",
    "check",
    "emit",
    "run",
    "bundle",
)

Progress = Callable[[str, int, "int | None"], None]
"""Called with the stage's name, what is done and, if known, the total."""


class Stages:
    """Wall-clock seconds of each stage, in order."""

    def __init__(self, progress: Progress | None):
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """Time a stage; yields a callback for progress inside it."""
        self._tell(name, 0, None)
        start = time.perf_counter()
        yield lambda done, total: self._tell(name, done, total)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def _tell(self, name: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(name, done, total)
