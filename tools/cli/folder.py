"""The output folder, checked before any work: that it can be written, and that nothing in it would be lost."""

from __future__ import annotations

from pathlib import Path

from fxc.compiler.folders import ensure_writable


def check_output(path: Path, *, force: bool) -> None:
    """Check that a bundle can be written to ``path``. Saving looks again, and closer, at what it would replace.

    Raises:
        ArtifactError: it exists and ``force`` is not set, or its folder cannot be written.
    """
    ensure_writable(path, force=force, removable=_looks_written)


def _looks_written(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("manifest.json", "targets.json"))


def check_dump(path: Path) -> None:
    """Check that the dumps can be written to ``path``; a folder that is there already is added to.

    Raises:
        ArtifactError: its folder cannot be written.
    """
    if not path.is_dir():
        check_output(path, force=False)
