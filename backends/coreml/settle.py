"""What a saved package has of chance and of the day is taken out: the same model is the same bytes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc.backends.coreml.package import open_package

_NAMESPACE = uuid.UUID("6f8d9a0e-53a1-5c1f-9d0b-1b8d3f0f6c11")
_CAST = "_cast_fp16"
_DATE = "com.github.apple.coremltools.conversion_date"


def settle(path: Path) -> None:
    """Rewrite the specification and the manifest of the package at ``path``.

    Values have their layers' names; the conversion's date goes; random identifiers become ones of the paths; maps are written in order. What coremltools
    leaves for ExecuTorch beside the model goes too.
    """
    package = open_package(path)
    package.spec.description.metadata.userDefined.pop(_DATE, None)
    for function in package.spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            rename(block, _layers(block))
    model = _paths(path)[json.loads((path / "Manifest.json").read_text())["rootModelIdentifier"]]
    (path / "Data" / model).write_bytes(package.spec.SerializeToString(deterministic=True))
    _manifest(path)
    for extra in path.iterdir():
        if extra.name not in ("Manifest.json", "Data"):
            extra.unlink()


def _layers(block: Any) -> dict[str, str]:
    """Values that the converter renamed when it made them float16, to the names that they had."""
    names = {o.name for op in block.operations for o in op.outputs}
    found = {name: name.removesuffix(_CAST) for name in names if name.endswith(_CAST)}
    return {name: plain for name, plain in found.items() if plain not in names}


def rename(block: Any, names: Mapping[str, str]) -> None:
    """Give values of a block other names, wherever they are made or read, also in blocks within."""
    for op in block.operations:
        for made in op.outputs:
            made.name = names.get(made.name, made.name)
        for argument in op.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "name":
                    binding.name = names.get(binding.name, binding.name)
        for inner in op.blocks:
            rename(inner, names)
    for i, name in enumerate(block.outputs):
        block.outputs[i] = names.get(name, name)


def _paths(path: Path) -> dict[str, str]:
    entries = json.loads((path / "Manifest.json").read_text())["itemInfoEntries"]
    return {name: entry["path"] for name, entry in entries.items()}


def _manifest(path: Path) -> None:
    document = json.loads((path / "Manifest.json").read_text())
    names = {old: str(uuid.uuid5(_NAMESPACE, place)) for old, place in _paths(path).items()}
    document["itemInfoEntries"] = {names[old]: entry for old, entry in document["itemInfoEntries"].items()}
    document["rootModelIdentifier"] = names[document["rootModelIdentifier"]]
    (path / "Manifest.json").write_text(json.dumps(document, indent=4, sort_keys=True) + "\n")
