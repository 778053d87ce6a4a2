"""The output folder, checked before any work: where it is, that it can be written, that nothing is lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fxc.compiler.errors import ArtifactError


def check_output(path: Path, *, force: bool) -> None:
    """Check that an artifact can be written to ``path``.

    Raises:
        ArtifactError: it exists and ``force`` is not set, or its folder cannot be written.
    """
    if (path.exists() or path.is_symlink()) and not force:
        raise ArtifactError(
            f"{path} exists already",
            why="an artifact is never overwritten silently",
            fix="--force, or another -o",
        )
    if path.exists() and not path.is_dir():
        raise ArtifactError(f"{path} is a file", why="an artifact is a folder", fix="another -o")
    parent = _first_existing(path.absolute().parent)
    if not parent.is_dir():
        raise ArtifactError(f"{path} cannot be created", where=str(parent), why="it is not a folder")
    try:
        os.rmdir(
            tempfile.mkdtemp(prefix=".fxc-probe-", dir=parent)
        )  # permission bits alone say nothing to root
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be created", where=str(parent), why=error.strerror or str(error), fix="another -o"
        ) from error


def _first_existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())
