"""The output folder, checked before any work: that it can be written, and that nothing in it would be lost."""

from __future__ import annotations

import os
from pathlib import Path

from fxc.compiler.errors import ArtifactError
from fxc.compiler.folders import ensure_writable


def check_output(path: Path, *, force: bool, several: bool = False) -> None:
    """Check that bundles can be written to ``path``. Saving looks again, and closer, at what it would replace.

    Args:
        path: of one bundle, or of the folder of several ones.
        force: whether it may be replaced by what is of the same kind.
        several: which of the two it is.

    Raises:
        ArtifactError: it exists and ``force`` is not set, or its folder cannot be written.
    """
    name = "targets.json" if several else "manifest.json"
    ensure_writable(path, force=force, removable=lambda folder: (folder / name).is_file())


def check_dump(path: Path, output: Path) -> None:
    """Check that the dumps can be written to ``path``; a folder that is there already is added to.

    Raises:
        ArtifactError: its folder cannot be written, or it is in the way of the output.
    """
    one, other = Path(os.path.abspath(path)), Path(os.path.abspath(output))
    if other in (one, *one.parents):
        raise ArtifactError(
            "the dump would be inside the output",
            where=str(path),
            fix="choose a folder outside of the bundle's",
        )
    if not path.is_dir():
        check_output(path, force=False)
