"""Processes that compile, cheap enough to kill by the hundred: forks of one that has imported and warmed up everything."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import fxc
from tests.e2e import fault_calls, fault_net

LIMIT = 120.0
"""Seconds after which a child that does not end is a failure of the test."""


class Child:
    """One process that runs ``fxc`` words or another job of :mod:`tests.e2e.fault_jobs`."""

    def __init__(self, parent: "Parent", pid: int, listener: fault_calls.Listener | None, said: Path):
        self.pid, self.calls = pid, listener
        self._parent, self._said = parent, said
        self._handle = os.pidfd_open(pid)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def step(self, count: int) -> fault_calls.Call | None:
        """Let ``count`` calls happen; the one after them, unanswered, or none if the process ends before."""
        assert self.calls is not None
        for _ in range(count):
            if (call := self.calls.next()) is None:
                return None
            self.calls.answer(call)
        return self.calls.next()

    def wait(self, answer: Callable[[fault_calls.Call], int] | None = None) -> int:
        """Let the rest happen, each call with the error that ``answer`` gives; the exit code, negative for a signal."""
        if self.calls is not None:
            for call in self.calls:
                self.calls.answer(call, answer(call) if answer else 0)
        if not select.select([self._handle], [], [], LIMIT)[0]:
            self.kill()
            raise AssertionError(f"the child did not end in {LIMIT:.0f} s\n{self.said}")
        os.close(self._handle)
        if self.calls is not None:
            self.calls.close()
        return int(self._parent.ask({"wait": self.pid})["code"])

    @property
    def said(self) -> str:
        """Its stdout and stderr."""
        return self._said.read_text(errors="replace")


@dataclass
class Parent:
    """The process that forks; it has captured a model and imported the runtimes, but started none of them."""

    process: "subprocess.Popen[bytes]"
    line: socket.socket
    folder: "tempfile.TemporaryDirectory[str]"
    count: int = field(default=0)
    handles: list[int] = field(default_factory=list)

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        self.line.send(json.dumps(question).encode())
        data, self.handles, _, _ = socket.recv_fds(self.line, 1 << 16, 1)
        answer: dict[str, Any] = json.loads(data)
        return answer

    def start(
        self, *words: str | Path, temporary: Path, watch: tuple[Path, ...] = (), cwd: Path | None = None
    ) -> Child:
        """Fork a child that runs ``fxc words``, or ``save``.

        Args:
            words: of the command line.
            temporary: where it makes temporary folders.
            watch: folders below which its changes are stopped, for :attr:`Child.calls`.
            cwd: its current folder.
        """
        self.count += 1
        said = Path(self.folder.name, f"{self.count}.txt")
        question = {
            "words": [str(word) for word in words],
            "temporary": str(temporary),
            "cwd": str(cwd or temporary),
            "said": str(said),
            "listen": bool(watch),
        }
        pid = int(self.ask(question)["pid"])
        listener = fault_calls.Listener(self.handles[0], watch) if watch else None
        return Child(self, pid, listener, said)


@cache
def parent() -> Parent:
    """The one of this test process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.e2e.fault_jobs", str(there.fileno())]
    single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, pass_fds=[there.fileno()], cwd=root, env={**os.environ, **single})
    there.close()
    made = Parent(process, here, tempfile.TemporaryDirectory(prefix="faults-"))
    if not made.ask({"ready": True}).get("ready"):
        raise AssertionError("the parent of the children did not start")
    return made


@cache
def can_listen() -> bool:
    """Whether this system lets a process listen to another one's calls."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError):
            fault_calls.listen()
            os._exit(0)
        os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


needs_calls = pytest.mark.skipif(not can_listen(), reason="needs seccomp's user notification (Linux 5.5)")


def bundles(target: str = "ort-int8") -> dict[str, Path]:
    """The bundles of the two nets, ``old`` and ``new``."""
    return _bundles(target)


@cache
def _bundles(target: str) -> dict[str, Path]:
    folder = Path(parent().folder.name, target)
    folder.mkdir()
    for name in ("old", "new"):
        child = parent().start(*fault_net.words(name, folder / name, target=target), temporary=folder)
        if child.wait():
            raise AssertionError(child.said)
    return {name: folder / name for name in ("old", "new")}


class Place:
    """A folder of a test: ``out`` is for a bundle, ``temporary`` for temporary folders, and all of it is watched."""

    def __init__(self, folder: Path, target: str = "ort-int8"):
        self.folder, self.out, self.temporary = folder, folder / "place" / "out", folder / "temporary"
        self.target = target
        self.out.parent.mkdir(parents=True)
        self.temporary.mkdir()

    def put(self, name: str | None) -> None:
        """Let ``out`` be one of the two bundles, or nothing."""
        if self.out.exists():
            shutil.rmtree(self.out)
        if name is not None:
            shutil.copytree(bundles(self.target)[name], self.out)

    def found(self) -> str | None:
        """Which bundle ``out`` is, every file checked; none if nothing is there. Fails if it is neither."""
        if not self.out.exists():
            return None
        return which(self.out, self.target)

    def litter(self) -> list[Path]:
        """What is left beside ``out`` and in the temporary folder."""
        beside = [p for p in self.out.parent.iterdir() if p != self.out]
        return sorted([*beside, *self.temporary.iterdir()])

    def compile(self, name: str, *more: str, watch: bool = False) -> Child:
        """Start a compile of a net into ``out``."""
        return self._start(*fault_net.words(name, self.out, *more, target=self.target), watch=watch)

    def save(self, name: str, *more: str, watch: bool = False) -> Child:
        """Start what a compile does at its end: save a bundle to ``out``."""
        return self._start("save", bundles(self.target)[name], self.out, *more, watch=watch)

    def _start(self, *words: str | Path, watch: bool) -> Child:
        roots = (self.folder,) if watch else ()
        return parent().start(*words, temporary=self.temporary, watch=roots, cwd=self.folder)


def kinds(child: Child) -> list[int]:
    """Moments in the life of a child: before the first and the last of each kind of change, and of its renames."""
    names: list[str] = []
    assert child.wait(lambda call: bool(names.append(call.name))) == 0, child.said
    # The first two are the mark of the round.
    first, last = {name: i for i, name in reversed([*enumerate(names)])}, {n: i for i, n in enumerate(names)}
    return sorted({i for i in (*first.values(), *last.values()) if i > 1})


def which(folder: Path, target: str = "ort-int8") -> str:
    """Whether a bundle is ``old`` or ``new``, every file checked."""
    names = {identity(path): name for name, path in bundles(target).items()}
    return names[identity(folder)]


def identity(folder: Path) -> str:
    """The hash over the hashes of a bundle's files, all of them checked."""
    return str(fxc.load(folder).manifest["sha256"])
