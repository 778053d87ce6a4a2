"""Files written as the same bytes every time, and read so that damage is named."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

from fxc.compiler.errors import ArtifactError
from fxc.compiler.scratch import is_work

JSON_LIMIT = 256 << 20
"""Largest JSON file that is read, in bytes: the graph of a 100,000-node program needs a tenth of it."""

_CHUNK = 1 << 20
_NUMBER = re.compile(r"\(os error (\d+)\)")
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
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ArtifactError(
                f"{path.name} is not a file", where=str(path), why="a pipe could wait for ever"
            )
        if facts.st_size > JSON_LIMIT:
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
        SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, SyntaxError,
        OverflowError,
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
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                _raise(error)
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


def write_error(path: Path, error: Exception) -> ArtifactError:
    """What to tell the user when writing below ``path`` failed."""
    # The library that writes tensors tells the number only in words.
    told = _NUMBER.search(str(error)) if not isinstance(error, OSError) else None
    code = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    other = "set TMPDIR to another folder" if is_work(path) else "choose another folder"
    fixes = {
        errno.ENOSPC: f"free space on that disk, or {other}",
        errno.EDQUOT: f"free space in your quota, or {other}",
        errno.EACCES: f"{other} that you may write",
        errno.EROFS: f"{other} that you may write",
    }
    folder = "temporary" if is_work(path) else "output"
    return ArtifactError(
        f"cannot write the {folder} folder: {error}", where=str(path), fix=fixes.get(code or 0)
    )


def _raise(error: OSError) -> NoReturn:
    raise ArtifactError(f"cannot read a folder: {error.strerror}", where=str(error.filename)) from error


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder: some model formats are one."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
