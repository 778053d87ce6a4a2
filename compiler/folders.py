"""Folders written so that a crash leaves the old one or the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import read_json, write_error
from fxc.compiler.scratch import aside, locked, remove_stale, sibling

MANIFEST = "manifest.json"
KIND = "fxc bundle"
"""What a bundle's manifest says that it is; nothing may be added to a bundle."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_ATTEMPTS = 100
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_T = TypeVar("_T")


def ensure_writable(path: Path, *, force: bool, removable: Callable[[Path], bool]) -> None:
    """Check, before long work, that a directory can be put at ``path``; nothing is left behind.

    Args:
        path: where the directory will be.
        force: whether an existing one may be replaced.
        removable: whether an existing, non-empty directory is one that fxc wrote and may remove.

    Raises:
        ArtifactError: something is there that must stay, or the parent cannot be written.
    """
    path = _absolute(path)
    _check_existing(path, force, removable)
    with _os_errors(path):
        made = _make_parents(path.parent)
        probe = sibling(path)
        try:
            _absolute(path)
            probe.mkdir()
            (probe / "probe").write_bytes(b"fxc")
        finally:
            shutil.rmtree(probe, ignore_errors=True)
            _remove_empty(made)


@contextmanager
def replacing_directory(path: Path, *, force: bool, removable: Callable[[Path], bool]) -> Iterator[Path]:
    """A temporary sibling to fill; it takes the place of ``path`` when the block ends well.

    The exchange is one step where the system has it (Linux, ``renameat2``); elsewhere the old directory is moved
    aside first and moved back if the new one cannot follow. Whatever ends the block early, Ctrl-C included, leaves
    ``path`` as it was and nothing beside it. Of several processes that write to one new ``path``, the first one to end
    wins; with ``force`` it is the last one.

    Raises:
        ArtifactError: as in :func:`ensure_writable`, and for a full disk; it names ``path``.
    """
    path = _absolute(path)
    _check_existing(path, force, removable)
    with _os_errors(path):
        made = _make_parents(path.parent)
        remove_stale(path.parent)
        temporary = sibling(path)
        try:
            temporary.mkdir()
            with locked(temporary):
                yield temporary
                _sync_tree(temporary)
                _put_in_place(temporary, path, force, removable)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(made)


def steady(path: Path, read: Callable[[], _T]) -> _T:
    """What ``read`` makes of the folder ``path``; if the folder was replaced meanwhile, of its successor.

    Raises:
        ArtifactError: what ``read`` raises of a folder that stays.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(path)
        try:
            found = read()
        except (ArtifactError, OSError):
            if _identity(path) == before:
                raise
        else:
            if _identity(path) == before:
                return found
    raise ArtifactError("the folder is replaced again and again", where=str(path), fix="wait for the others")


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino, facts.st_ctime_ns


def _absolute(path: Path) -> Path:
    """Raises for a name that no folder can have, before any work is done."""
    try:
        path = Path(os.path.abspath(path))
        os.lstat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    return path


def _check_existing(path: Path, force: bool, removable: Callable[[Path], bool]) -> None:
    check_outside_bundles(path)
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(
            "the output path is not a folder",
            where=str(path),
            fix="give the path of a folder that fxc can make",
        )
    if os.path.ismount(path) or _is_current(path):
        raise ArtifactError(
            "the output folder cannot be put in place",
            where=str(path),
            why="it is a mount point, or the folder that you are in",
            fix=f"choose a folder in it, such as {path / 'bundle'}",
        )
    if _is_empty(path):
        return
    _check_removable(path, removable)
    if not force:
        raise ArtifactError(
            "the output folder already holds an artifact",
            where=str(path),
            fix="choose another folder, or replace it with force=True (--force)",
        )


def check_outside_bundles(path: Path) -> None:
    """Check that writing ``path`` adds nothing to a bundle, which would then be refused as damaged.

    Raises:
        ArtifactError: one of the folders above is a bundle.
    """
    for parent in _absolute(path).parents:
        if _is_bundle(parent):
            raise ArtifactError(
                "the output is inside another bundle",
                where=str(path),
                why=f"{parent} would be damaged: nothing may be added to a bundle",
                fix="choose a place outside",
            )


def _is_bundle(folder: Path) -> bool:
    file = folder / MANIFEST
    try:
        found = read_json(file) if file.is_file() else None
    except (ArtifactError, OSError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _is_current(path: Path) -> bool:
    # A folder that was removed can still be the current one; then it is not ``path``.
    with suppress(FileNotFoundError):
        return os.path.samefile(path, os.curdir)
    return False


def _is_empty(path: Path) -> bool:
    with _os_errors(path):
        return not any(path.iterdir())


def _check_removable(path: Path, removable: Callable[[Path], bool]) -> None:
    if not steady(path, lambda: removable(path)):
        raise ArtifactError(
            "the output folder holds files that fxc did not write",
            where=str(path),
            why="fxc replaces only what it wrote itself, also with force, and only by what is of the same kind",
            fix="choose another folder",
        )


def _put_in_place(new: Path, path: Path, force: bool, removable: Callable[[Path], bool]) -> None:
    try:
        # This takes the place of nothing or of an empty folder; another compile may have been faster.
        os.rename(new, path)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        _check_existing(path, force, removable)
        with locked(path):
            _replace(new, path, removable)
    else:
        _sync_or_undo(path.parent, lambda: os.rename(path, new))


def _replace(new: Path, path: Path, removable: Callable[[Path], bool]) -> None:
    if _exchange(new, path):
        try:
            # A file may have come in after the check; what was at ``path`` is at ``new`` now.
            if not _is_empty(new):
                _check_removable(new, removable)
            _sync(path.parent)
        except BaseException:
            _exchange(new, path)
            raise
        shutil.rmtree(new, ignore_errors=True)
        return
    old = aside(path)
    os.rename(path, old)
    try:
        os.rename(new, path)
        _sync(path.parent)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the system can do it; raises if it can and failed."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in _UNKNOWN:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _make_parents(folder: Path) -> list[Path]:
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, p in enumerate(missing) if p.exists())]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except BaseException:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        # Not empty means that the artifact, or somebody else's file, is in it: it stays.
        with suppress(OSError):
            folder.rmdir()


def _sync_tree(directory: Path) -> None:
    for folder, _, files in os.walk(directory):
        for name in files:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync a folder; a full disk or a broken one must be heard.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _sync_or_undo(folder: Path, undo: Callable[[], None]) -> None:
    try:
        _sync(folder)
    except BaseException:
        undo()
        raise


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise write_error(path, error) from error
