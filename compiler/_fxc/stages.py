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
    "equalize",
    "annotate",
    "calibrate",
    "quantize",
    "emit",
    "check",
    "run",
    "bundle",
)
"""Of every compile, in order. The file runs beside the check; ``run`` is what is left of it afterwards."""

_PRUNE = "prune"
"""Only where it was asked for."""
_ORDER = (*STAGES[:2], _PRUNE, *STAGES[2:])

Progress = Callable[[str, int, "int | None"], None]
"""Called with the stage's name, what is done and, if known, the total."""


class Stages:
    """Wall-clock seconds of each stage, in order.

    Several targets share one ``Stages`` up to a point; from there each has a fork, which knows the shared seconds too.
    """

    def __init__(self, progress: Progress | None, of: str = "", shared: Stages | None = None):
        self._progress, self._of, self._shared = progress, of, shared
        self._own: dict[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order in which they run."""
        known = dict(self._shared.seconds) if self._shared is not None else {}
        for name, seconds in self._own.items():
            known[name] = known.get(name, 0.0) + seconds
        return {name: known[name] for name in sorted(known, key=_position)}

    def fork(self, of: str) -> Stages:
        """Stages of one of several targets; its progress is told under the target's name."""
        return Stages(self._progress, of, self)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        """Time a stage; yields a callback for progress inside it."""
        self._tell(name, 0, None)
        start = time.perf_counter()
        yield lambda done, total: self._tell(name, done, total)
        self._own[name] = self._own.get(name, 0.0) + time.perf_counter() - start

    def _tell(self, name: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(f"{self._of}: {name}" if self._of else name, done, total)


def _position(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
