"""What a saved package has of chance and of the day is taken out: the same model is the same bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from fxc.backends.coreml.names import rename, restored, share_constants
from fxc.backends.coreml.package import open_package
from fxc.compiler.program import Program

_NAMESPACE = uuid.UUID("6f8d9a0e-53a1-5c1f-9d0b-1b8d3f0f6c11")
_FIELDS = {
    "author": "author",
    "license": "license",
    "description": "shortDescription",
    "version": "versionString",
}
_DATE = "com.github.apple.coremltools.conversion_date"


def settle(path: Path, program: Program, said: Mapping[str, str] | None = None) -> None:
    """Rewrite the specification and the manifest of the package at ``path``, which was made of ``program``.

    Values have their layers' names, equal constants are one; the conversion's date goes; random identifiers become ones of the paths; maps are written in order. What coremltools
    leaves for ExecuTorch beside the model goes too.

    Args:
        said: the user's metadata, by the words of :data:`fxc.backends.coreml.versions.ABOUT`.
    """
    package = open_package(path)
    about = package.spec.description.metadata
    about.userDefined.pop(_DATE, None)
    about.userDefined["fxc"] = version("fxc")
    given = {"description": program.name, **(said or {})}
    for word, name in _FIELDS.items():
        if word in given:
            setattr(about, name, given[word])
    for function in package.spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            rename(block, restored(program, block))
            share_constants(block)
    model = _paths(path)[json.loads((path / "Manifest.json").read_text())["rootModelIdentifier"]]
    (path / "Data" / model).write_bytes(package.spec.SerializeToString(deterministic=True))
    _manifest(path)
    for extra in path.iterdir():
        if extra.name not in ("Manifest.json", "Data"):
            extra.unlink()


def _paths(path: Path) -> dict[str, str]:
    entries = json.loads((path / "Manifest.json").read_text())["itemInfoEntries"]
    return {name: entry["path"] for name, entry in entries.items()}


def _manifest(path: Path) -> None:
    document = json.loads((path / "Manifest.json").read_text())
    names = {old: str(uuid.uuid5(_NAMESPACE, place)) for old, place in _paths(path).items()}
    document["itemInfoEntries"] = {names[old]: entry for old, entry in document["itemInfoEntries"].items()}
    document["rootModelIdentifier"] = names[document["rootModelIdentifier"]]
    (path / "Manifest.json").write_text(json.dumps(document, indent=4, sort_keys=True) + "\n")
