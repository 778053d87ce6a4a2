"""Run a command with a cap on its time and on the memory of its whole process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

POLL = 0.1
"""Seconds between two looks at the memory; what grows and goes between them is not seen."""


@dataclass(frozen=True)
class Caps:
    """Wall-clock seconds and resident gigabytes (1e9 bytes, the command and its children together)."""

    seconds: float
    gigabytes: float


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        reason: empty if it exited with 0, else one line that says what happened.
        output: what it wrote to standard output.
        seconds: wall clock.
        peak_gb: highest resident memory seen.
        cpu_seconds: processor time seen, which other programs on the machine change less than the wall clock.
    """

    reason: str
    output: str
    seconds: float
    peak_gb: float
    cpu_seconds: float = 0.0


@dataclass
class _Use:
    """What a process tree was seen to use."""

    peak_gb: float = 0.0
    cpu_seconds: float = 0.0

    def look(self, pid: int) -> None:
        """At the processes that live now."""
        try:
            parent = psutil.Process(pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        resident, cpu = 0, 0.0
        for process in family:
            with suppress(psutil.NoSuchProcess):
                resident += process.memory_info().rss
                cpu += sum(process.cpu_times()[:2])
        self.peak_gb = max(self.peak_gb, resident / 1e9)
        self.cpu_seconds = max(self.cpu_seconds, cpu)


def run(
    command: Sequence[str],
    caps: Caps,
    environment: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run ``command`` in a session of its own, and kill all of it at a cap, at an interrupt, or when ``stop`` is set."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        use = _Use()
        try:
            broken = _watch(child, caps, stop or threading.Event(), use)
        finally:
            _kill(child)
        reason = broken or _why(child.returncode, _text(errors))
        return Outcome(reason, _text(output), time.monotonic() - start, use.peak_gb, use.cpu_seconds)


def _watch(child: subprocess.Popen[bytes], caps: Caps, stop: threading.Event, use: _Use) -> str:
    """The cap that was broken, if any; returns when the command has ended or must end."""
    start = time.monotonic()
    while child.poll() is None:
        use.look(child.pid)
        if use.peak_gb > caps.gigabytes:
            return f"out of memory: {use.peak_gb:.1f} GB, the cap is {caps.gigabytes:g}"
        if stop.is_set():
            return "stopped"
        if time.monotonic() - start > caps.seconds:
            return f"out of time: the cap is {caps.seconds:g} s"
        with suppress(subprocess.TimeoutExpired):
            child.wait(POLL)
    return ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    # The session's number is its first process's; that one is not reaped yet, or the group is gone.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _why(code: int, errors: str) -> str:
    if code == 0:
        return ""
    last = next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "no message")
    return f"killed by signal {-code}" if code < 0 else last


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", errors="replace"))
