"""Files written so that a crash leaves the old ones or the new ones, and read so that damage is named."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fxc.compiler.errors import ArtifactError

STALE_SECONDS = 24 * 3600
"""Age after which a temporary sibling that a killed process left is removed."""

JSON_LIMIT = 256 << 20
"""Largest JSON file that is read, in bytes: the graph of a 100,000-node program needs a tenth of it."""

_CHUNK = 1 << 20
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_PART = re.compile(r"[\w@+=,()\[\]-][\w .@+=,()\[\]-]*")


def json_text(value: Any) -> str:
    """``value`` as JSON that is the same bytes every time: sorted keys, two spaces, LF at the end.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with LF line ends on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write :func:`json_text` of ``value``."""
    write_text(path, json_text(value))


def compact_json(value: Any) -> str:
    """``value`` as JSON on one line, the same bytes every time.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ArtifactError: missing, not readable, too large, cut short, not JSON, or nested beyond reason.
    """
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise ArtifactError(f"{path.name} is too large", where=str(path), why=f"limit {JSON_LIMIT} bytes")
        return json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path.name} is not valid JSON: {error}",
            where=str(path),
            fix="the file was cut short or changed; copy or build it again",
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let every failure to read ``path`` and to make sense of it be an :class:`ArtifactError` that names it."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(
            error.what, where=error.where or str(path), why=error.why, fix=error.fix
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    # A damaged document fails wherever its first wrong value is used.
    except (
        SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, SyntaxError
    ) as error:  # fmt: skip
        raise ArtifactError(
            f"{path.name} is malformed ({type(error).__name__}: {str(error)[:200]})",
            where=str(path),
            fix="the file was changed or is of another version; write it again",
        ) from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def regular_files(directory: Path) -> tuple[str, ...]:
    """Every file below ``directory``, relative, with ``/``, sorted.

    Raises:
        ArtifactError: a link, a device or a pipe is among them, or the directory cannot be read.
    """
    found: list[str] = []
    for folder, folders, files in os.walk(directory, onerror=_raise):
        for name in (*folders, *files):
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ArtifactError(
                    f"{name} is neither a file nor a folder",
                    where=str(path),
                    why="links and special files could point outside the folder",
                )
        found += [Path(folder, name).relative_to(directory).as_posix() for name in files]
    return tuple(sorted(found))


def safe_relative(name: object) -> str:
    """``name`` if it is a plain relative path with ``/``, staying below its folder on every system.

    Raises:
        ArtifactError: absolute, ``..``, a backslash, a drive, an empty part or a control character.
    """
    parts = name.split("/") if isinstance(name, str) else [""]
    if not all(
        _PART.fullmatch(part) or (part.startswith(".") and _PART.fullmatch(part[1:])) for part in parts
    ):
        raise ArtifactError(f"{name!r} is not a plain relative file name")
    return "/".join(parts)


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
        probe = _sibling(path, "tmp")
        try:
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
    ``path`` as it was and nothing beside it.

    Raises:
        ArtifactError: as in :func:`ensure_writable`, and for a full disk; it names ``path``.
    """
    path = _absolute(path)
    _check_existing(path, force, removable)
    with _os_errors(path):
        made = _make_parents(path.parent)
        _remove_stale(path)
        temporary = _sibling(path, "tmp")
        try:
            temporary.mkdir()
            yield temporary
            _sync_tree(temporary)
            _check_existing(path, force, removable)
            _put_in_place(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(made)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _check_existing(path: Path, force: bool, removable: Callable[[Path], bool]) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(
            "the output path is not a folder",
            where=str(path),
            fix="give the path of a folder that fxc can make",
        )
    with _os_errors(path):
        empty = not any(path.iterdir())
    if empty:
        return
    if not removable(path):
        raise ArtifactError(
            "the output folder holds files that fxc did not write",
            where=str(path),
            why="fxc only replaces what it wrote itself, also with force",
            fix="choose another folder",
        )
    if not force:
        raise ArtifactError(
            "the output folder already holds an artifact",
            where=str(path),
            fix="choose another folder, or replace it with force=True (--force)",
        )


def _put_in_place(new: Path, path: Path) -> None:
    if not path.exists():
        os.rename(new, path)
    elif _exchange(new, path):
        shutil.rmtree(new, ignore_errors=True)
    else:
        aside = _sibling(path, "old")
        os.rename(path, aside)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(aside, path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    done = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(done == 0)


def _sibling(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def _remove_stale(path: Path) -> None:
    # The name is matched as text: a folder called "a*b" must not sweep up its neighbours.
    prefixes = (f".{path.name}.tmp-", f".{path.name}.old-")
    for sibling in path.parent.iterdir():
        if sibling.name.startswith(prefixes) and not sibling.is_symlink():
            # Another process may be removing the same leftover.
            with suppress(FileNotFoundError):
                if time.time() - sibling.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(sibling, ignore_errors=True)


def _make_parents(folder: Path) -> list[Path]:
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, p in enumerate(missing) if p.exists())]
    folder.mkdir(parents=True, exist_ok=True)
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


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: Exception) -> ArtifactError:
    """What to tell the user when writing below ``path`` failed."""
    code = error.errno if isinstance(error, OSError) else None
    fixes = {
        errno.ENOSPC: "free space on that disk, or choose another folder",
        errno.EDQUOT: "free space in your quota, or choose another folder",
        errno.EACCES: "choose a folder that you may write",
        errno.EROFS: "choose a folder that you may write",
    }
    words = str(error)
    return ArtifactError(
        f"cannot write the output folder: {words}", where=str(path), fix=fixes.get(code or 0)
    )


def _raise(error: OSError) -> None:
    raise ArtifactError(f"cannot read a folder: {error.strerror}", where=str(error.filename)) from error
