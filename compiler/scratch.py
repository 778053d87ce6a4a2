"""Temporary folders that no kill leaves for ever: each carries fxc's mark, and a later run removes the old ones.

A folder in use is locked, and the kernel drops the lock with the process. So what a killed process left is told from the
folder of an artifact that a notebook has held for days; numbers of processes could not tell, as they come again.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing below removes what it cannot know to be dead
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 24 * 3600
"""Age after which what a killed process left is removed."""

_WORK = re.compile(r"fxc-[a-z0-9]+-\d+-[a-z0-9_]{8}")
_SIBLING = re.compile(r"\.fxc-new-\d+-[0-9a-f]{8}")
_ASIDE = re.compile(r"\.(?P<name>.+)\.fxc-old-\d+-[0-9a-f]{8}", re.DOTALL)


class WorkFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder where the system has them (``TMPDIR``), locked for as long as it lives.

    Args:
        kind: what it is for, lower-case letters and digits; it is part of the folder's name.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, kind: str):
        remove_stale(Path(tempfile.gettempdir()))
        super().__init__(prefix=f"fxc-{kind}-{os.getpid()}-", ignore_cleanup_errors=True)
        handle = _hold(self.name)
        self._unlock = weakref.finalize(self, os.close, handle) if handle is not None else None

    def cleanup(self) -> None:
        """Remove it now; again is no error."""
        super().cleanup()
        if self._unlock is not None:
            self._unlock()


def is_work(path: Path) -> bool:
    """Whether ``path`` is in a :class:`WorkFolder`, by its name."""
    return any(_WORK.fullmatch(part) for part in path.parts)


def sibling(path: Path) -> Path:
    """A new name beside ``path``, for a folder that is to take its place."""
    return path.with_name(f".fxc-new-{os.getpid()}-{secrets.token_hex(4)}")


def aside(path: Path) -> Path:
    """A new name beside ``path``, to move it to; it says what it was, as it may be the only copy for a moment."""
    return path.with_name(f".{path.name}.fxc-old-{os.getpid()}-{secrets.token_hex(4)}")


def moved_aside(path: Path) -> Path | None:
    """Where the folder ``path`` lies if a process was killed while it replaced it without an exchange in one step."""
    with suppress(OSError):
        for other in path.parent.iterdir():
            if (match := _ASIDE.fullmatch(other.name)) and match["name"] == path.name:
                return other
    return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep :func:`remove_stale` of all processes away from ``folder``."""
    handle = _hold(str(folder))
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes of this user left in ``folder`` more than a day ago.

    Only folders under fxc's own names, never a link's target, never what is in use. A failure is not told: the leftover
    costs some disk, and the work at hand can go on.
    """
    if fcntl is None:
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            if _WORK.fullmatch(name) or _SIBLING.fullmatch(name) or _replaced(folder, name):
                with suppress(OSError):
                    _remove_if_stale(os.path.join(folder, name), without_locks=name.startswith("."))


def _replaced(folder: Path, name: str) -> bool:
    """Whether ``name`` was moved aside and its successor is in place."""
    match = _ASIDE.fullmatch(name)
    return match is not None and (folder / match["name"]).is_dir()


def _remove_if_stale(path: str, *, without_locks: bool) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        facts = os.fstat(handle)
        old = time.time() - facts.st_mtime > STALE_SECONDS
        if old and facts.st_uid == os.geteuid() and _is_free(handle, without_locks):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(handle)


def _is_free(handle: int, unknown: bool) -> bool:
    """Whether nobody holds the lock; ``unknown`` where the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _hold(folder: str) -> int | None:
    """A handle that keeps ``folder`` locked until it is closed; none where that is not possible."""
    if fcntl is None:
        return None
    handle = None
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return handle
