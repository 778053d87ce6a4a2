"""One process changes a toolchain at a time, and none while another works with it.

The kernel drops a lock with the last process that holds it. An installer's child inherits it: if fxc is killed, the next
installation waits until the child has ended too.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fxc.compiler.errors import ToolchainError

try:
    import fcntl
except ImportError:  # Windows, for which no toolkit that lives apart has wheels
    fcntl = None  # type: ignore[assignment]

_BUSY = (errno.EAGAIN, errno.EACCES)
_PAUSE = 0.1


@contextmanager
def changing(path: Path, busy: Callable[[], None]) -> Iterator[int]:
    """Hold the lock file ``path`` alone; its handle. Waits for others, after ``busy`` was called once.

    Raises:
        OSError: the lock file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _taken(handle, alone=True):
            busy()
            while not _taken(handle, alone=True):
                time.sleep(_PAUSE)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def using(path: Path) -> Iterator[None]:
    """Keep others from changing what ``path`` locks; nothing is held where there is no lock file to be read.

    Raises:
        ToolchainError: it is being changed now.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # An environment that somebody else installed, on a disk that only they may write.
        yield
        return
    try:
        if not _taken(handle, alone=False):
            raise ToolchainError(
                f"the toolchain {path.stem} is being installed or removed",
                where=str(path.with_suffix("")),
                fix="run it again when that has ended",
            )
        yield
    finally:
        os.close(handle)


def _taken(handle: int, *, alone: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        # A file system without locks: two installations at once are then not kept apart.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
            raise
    return True
