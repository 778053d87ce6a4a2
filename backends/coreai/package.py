"""An ``.aimodel`` on disk: a folder of a program, its hash, and metadata. Checked before Core AI sees it, which it may crash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from fxc.compiler.errors import ArtifactError

SUFFIX = ".aimodel"
PROGRAM, HASH, METADATA = "main.mlirb", "main.hash", "metadata.json"
_MAGIC = b"ML\xefR"
"""How MLIR's bytecode begins."""
_AGAIN = f"copy the whole {SUFFIX} folder again, or compile again"


def check_package(path: Path) -> None:
    """Look whether ``path`` is a whole ``.aimodel``.

    Raises:
        ArtifactError: it does not exist, is none, is incomplete, or its program is not the one that was hashed.
    """
    if not path.is_dir():
        there = f"{path} is a file, and an {SUFFIX} is a folder"
        raise ArtifactError(there if path.exists() else f"there is no model {path}")
    for name in (PROGRAM, HASH, METADATA):
        if not (path / name).is_file():
            raise ArtifactError(f"{path} is no whole {SUFFIX}", why=f"there is no {name} in it", fix=_AGAIN)
    try:
        program, wanted = (path / PROGRAM).read_bytes(), (path / HASH).read_bytes()
        metadata = json.loads((path / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read", why=str(error), fix=_AGAIN) from error
    if not program.startswith(_MAGIC):
        raise ArtifactError(f"{path / PROGRAM} is no Core AI program", fix=_AGAIN)
    if hashlib.sha256(program).digest() != wanted:
        raise ArtifactError(
            f"{path} is damaged", why=f"{PROGRAM} is not what {HASH} was taken of", fix=_AGAIN
        )
    if not isinstance(metadata, dict):
        raise ArtifactError(f"{path / METADATA} is damaged", why="it holds no object", fix=_AGAIN)
