"""A command in a process group of its own, with a time limit; everything that it says goes to a log file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LOG_LIMIT = 64 << 20
"""Bytes that a command may say before it is stopped: a tool in an endless loop must not fill the disk."""

Line = Callable[[str], None]

_LINES, _TAIL, _WIDTH = 12, 1 << 14, 200
_PAUSES = (0.005, 0.2)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r"\d%\|")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        end: ``"exit"`` by itself; ``"time"`` or ``"flood"`` if it was stopped for the time it took or what it said.
        code: exit code, negative for the signal that ended it.
        seconds: how long it ran.
        said: its last lines, without colours and progress bars.
    """

    end: Literal["exit", "time", "flood"]
    code: int
    seconds: float
    said: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether it ended by itself and well."""
        return self.end == "exit" and self.code == 0

    def words(self) -> str:
        """How it ended, in words: ``"crashed (SIGABRT) after 3 s"``."""
        if self.end == "time":
            return f"did not end within {self.seconds:.0f} s and was stopped"
        if self.end == "flood":
            return f"was stopped after {LOG_LIMIT >> 20} MiB of messages"
        if self.code == -signal.SIGKILL:
            return f"was killed after {self.seconds:.0f} s; the system does that when memory runs out"
        if self.code < 0:
            return f"crashed ({_signal_name(-self.code)}) after {self.seconds:.0f} s"
        return f"failed with exit code {self.code} after {self.seconds:.0f} s"


def supervise(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    seconds: float,
    variables: Mapping[str, str],
    line: Line | None = None,
    keep: Sequence[int] = (),
) -> Outcome:
    """Run ``command`` to its end. However this call is left, Ctrl-C included, no process of the group stays.

    Args:
        command: program and arguments.
        folder: its current folder.
        log: where stdout and stderr are appended.
        seconds: time limit, wall clock.
        variables: its whole environment.
        line: called with every finished line that it says.
        keep: handles that it inherits.

    Raises:
        OSError: it cannot be started, or the log cannot be written.
    """
    with log.open("ab") as sink:
        before = os.fstat(sink.fileno()).st_size
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(keep),
        )
    start, follower = time.monotonic(), _Follower(log, before, line)
    try:
        end = _wait(process, start + seconds, follower)
    finally:
        _stop(process)
    follower.read()
    return Outcome(end, process.returncode, time.monotonic() - start, last_lines(log, before))


def last_lines(log: Path, start: int = 0) -> tuple[str, ...]:
    """The last lines of a log from byte ``start`` on that say anything; a progress bar does not."""
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL))
        lines = [_plain(text) for text in file.read().decode("utf-8", "replace").split("\n")]
    return tuple(text for text in lines if text and not _BAR.search(text))[-_LINES:]


def _plain(text: str) -> str:
    """What a terminal would show of a line in the end."""
    shown = _ESCAPE.sub("", text).rstrip("\r").rsplit("\r", 1)[-1]
    return _CONTROL.sub("", shown).rstrip()[:_WIDTH]


class _Follower:
    """Reads a log as it grows."""

    def __init__(self, log: Path, start: int, line: Line | None):
        self._log, self._at, self._line = log, start, line
        self._start, self._rest = start, b""

    def read(self) -> None:
        if self._line is None:
            return
        with self._log.open("rb") as file:
            file.seek(self._at)
            # A bit at a time: what floods the log must not flood the memory.
            new = file.read(1 << 20)
        self._at += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self._rest = self._rest[-_TAIL:]
        for text in lines:
            self._line(_plain(text.decode("utf-8", "replace")))

    def flooded(self) -> bool:
        return self._log.stat().st_size - self._start > LOG_LIMIT


def _wait(
    process: subprocess.Popen[bytes], deadline: float, follower: _Follower
) -> Literal["exit", "time", "flood"]:
    pause, longest = _PAUSES
    while not _ended(process):
        follower.read()
        if follower.flooded():
            return "flood"
        if (left := deadline - time.monotonic()) <= 0:
            return "time"
        time.sleep(min(pause, left))
        pause = min(2 * pause, longest)
    return "exit"


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. It stays a zombie, so that its group's number cannot be another's before we stop it."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the group, the children of a process that has ended included."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
