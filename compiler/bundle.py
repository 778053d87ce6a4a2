"""What lies in a bundle: its file names, its manifest, and the check that nothing in it was damaged.

The hashes find damage and mix-ups. They are no signature: who can write the folder can write the manifest too.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fxc.compiler.backend import Emitted
from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import json_text, read_json, reading, regular_files, safe_relative, sha256
from fxc.compiler.folders import KIND, MANIFEST
from fxc.compiler.program import InputSpec, OutputSpec, Program
from fxc.compiler.scratch import moved_aside
from fxc.compiler.serialize_values import (
    decode_frozen,
    decode_input,
    decode_output,
    decode_tree,
    encode_frozen,
    encode_input,
    encode_output,
    encode_tree,
)
from fxc.compiler.target import Target
from fxc.compiler.text import structural_hash

FORMAT = 1
HASH = "sha256"
"""The manifest's key for the hash of everything else in it."""
REPORT = "report.json"
REPORT_HTML = "report.html"
TIMINGS = "timings.json"
GOLDEN = "golden"
PROGRAM = "program"
_READERS = 2
"""Files read at a time: hashing needs a core and no interpreter, and a bundle has two large files."""
UNHASHED = frozenset({MANIFEST, TIMINGS})
"""Files that are in every bundle and not in its list of hashes: the list itself, and what differs between runs."""

DETERMINISM = "equal inputs, options and tool versions give equal bytes in every file listed under files"

_LAYOUTS = {3: "NCL", 4: "NCHW", 5: "NCDHW"}


def manifest_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content, its own hash left out."""
    text = json_text({key: value for key, value in content.items() if key != HASH})
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(
    program: Program,
    target: Target,
    emitted: Emitted,
    files: Mapping[str, Mapping[str, Any]],
    *,
    preprocessing: Mapping[str, Any] | None,
    io: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of ``manifest.json``; ``files`` is what :func:`hashes` gave."""
    inputs = zip(program.tensor_inputs, emitted.inputs)
    outputs = zip(program.outputs, emitted.outputs)
    content = {
        "kind": KIND,
        "format": FORMAT,
        "name": program.name,
        "target": target_facts(target),
        "model": emitted.model,
        "inputs": [_tensor(spec, name, io, rank_layout=True) for spec, name in inputs],
        "outputs": [_tensor(spec, name, io, rank_layout=False) for spec, name in outputs],
        "signature": {
            "inputs": [encode_input(spec) for spec in program.inputs],
            "outputs": [encode_output(spec) for spec in program.outputs],
            "in_tree": encode_tree(program.in_spec),
            "out_tree": encode_tree(program.out_spec),
            "frozen_outputs": encode_frozen(program.frozen_outputs),
        },
        "preprocessing": dict(preprocessing) if preprocessing else None,
        "tensors": dict(emitted.tensors),
        "notes": list(emitted.notes),
        "program_hash": structural_hash(program),
        "tools": {**_tools(), **emitted.tools},
        "host": {"can": target.host, "machine": platform.machine(), "system": platform.system()},
        "determinism": _determinism(emitted),
        "files": dict(files),
    }
    return {**content, HASH: manifest_hash(content)}


def _determinism(emitted: Emitted) -> str:
    if not emitted.varies:
        return DETERMINISM
    return f"{DETERMINISM}, but for what the vendor's tool writes: {', '.join(emitted.varies)}"


def target_facts(target: Target) -> dict[str, Any]:
    """What a manifest says of its target."""
    words = ("name", "device", "precision", "backend", "format", "toolchain", "opset", "made_for")
    return {word: getattr(target, word) for word in words}


def _tensor(
    spec: InputSpec | OutputSpec, name: str, io: Mapping[str, Mapping[str, Any]], *, rank_layout: bool
) -> dict[str, Any]:
    images = rank_layout and spec.dtype.startswith(("float", "bfloat", "uint8", "int8"))
    layout = _LAYOUTS.get(len(spec.shape)) if images else None
    facts = {
        "name": spec.name,
        "tensor": name,
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "layout": layout,
    }
    return {**facts, "scale": None, "zero_point": None, **io.get(spec.name, {})}


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "fxc": version("fxc"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def hashes(directory: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """SHA-256 and size in bytes of each named file."""
    paths = {name: directory / name for name in sorted(names)}
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip(paths, pool.map(sha256, paths.values())))
    return {name: {"sha256": found[name], "bytes": path.stat().st_size} for name, path in paths.items()}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the bundle at ``path``, its form checked; the files it lists are not.

    Raises:
        ArtifactError: no bundle, a newer format, or a manifest that is cut short or malformed.
    """
    if not path.is_dir():
        left = moved_aside(path)
        raise ArtifactError(
            "there is no bundle here",
            where=str(path),
            why=f"a process was killed while it replaced the bundle; the old one is {left}" if left else None,
            fix=f"rename {left} to {path.name}" if left else "give the folder that save() wrote",
        )
    file = path / MANIFEST
    if not file.exists():
        raise ArtifactError(
            "this folder is no bundle, or not a whole one",
            where=str(path),
            why=f"it has no {MANIFEST}",
            fix="give the folder that save() wrote, or copy it again",
        )
    with reading(file):
        found = read_json(file)
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ArtifactError("this is not an fxc bundle")
        if found.get("format") != FORMAT:
            raise ArtifactError(
                f"the bundle has format {str(found.get('format'))[:20]}, this fxc reads {FORMAT}",
                fix="install the fxc that wrote it, or compile again",
            )
        if found.get(HASH) != manifest_hash(found):
            raise ArtifactError(
                f"{MANIFEST} was changed after the bundle was written",
                why="its content differs from its own hash",
                fix="copy the bundle again, or compile again",
            )
        listed = {safe_relative(name) for name in found["files"]}
        # Some formats are folders, whose files are listed.
        inside = f"{found['model']}/"
        known = found["model"] in listed or any(str(name).startswith(inside) for name in listed)
        if not known or not isinstance(found["target"]["name"], str):
            raise ArtifactError("the manifest names no model file or no target")
        signature_of(found)
        return found


def signature_of(found: Mapping[str, Any]) -> Program:
    """How the bundle's model is called: a program with specs and structures and an empty graph.

    Raises:
        ArtifactError: malformed specs or structures.
    """
    signature = found["signature"]
    in_tree, out_tree = decode_tree(signature["in_tree"]), decode_tree(signature["out_tree"])
    inputs = tuple(decode_input(value) for value in signature["inputs"])
    outputs = tuple(decode_output(value) for value in signature["outputs"])
    frozen = decode_frozen(signature["frozen_outputs"])
    results = len(outputs) + len(frozen)
    if in_tree.num_leaves != len(inputs) or out_tree.num_leaves != results or not _is_call(in_tree):
        raise ArtifactError("the signature in the manifest contradicts itself")
    empty = torch.fx.GraphModule({}, torch.fx.Graph())
    name = str(found["name"])
    return Program(empty, inputs, outputs, in_tree, out_tree, name=name, frozen_outputs=frozen)


def _is_call(tree: pytree.TreeSpec) -> bool:
    pair = tree.type is tuple and tree.num_children == 2
    return pair and tree.child(0).type is tuple and tree.child(1).type is dict


def verify(path: Path, found: Mapping[str, Any]) -> None:
    """Check that the folder holds exactly the files of the manifest, each with its size and hash.

    Raises:
        ArtifactError: naming the first file that is missing, too much, or changed.
    """
    listed: Mapping[str, Mapping[str, Any]] = found["files"]
    present = set(regular_files(path))
    for name in sorted({*listed, MANIFEST} - present):
        raise ArtifactError(f"{name} is missing from the bundle", where=str(path / name), fix="copy it again")
    for name in sorted(present - set(listed) - UNHASHED):
        raise ArtifactError(
            f"{name} does not belong to the bundle", where=str(path / name), fix="move it out of the folder"
        )
    with ThreadPoolExecutor(_READERS) as pool:
        # In the order of names: the first file that fails is the one that is told.
        for _ in pool.map(lambda name: verify_file(path / name, name, listed[name]), sorted(listed)):
            pass


def verify_file(file: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Check one file's size and hash.

    Raises:
        ArtifactError: missing, or changed.
    """
    with reading(file):
        size = file.stat().st_size
        if size != facts["bytes"]:
            why = f"{size} bytes instead of {facts['bytes']}"
        elif sha256(file) != facts["sha256"]:
            why = "its hash differs from the manifest's"
        else:
            return
        raise ArtifactError(
            f"{name} was changed after the bundle was written",
            why=why,
            fix="copy the bundle again, or compile again",
        )


def is_bundle(path: Path) -> bool:
    """Whether the folder is a bundle with nothing in it that fxc did not write; its content may be damaged."""
    try:
        listed = set(read_manifest(path)["files"])
        return set(regular_files(path)) <= listed | UNHASHED
    except (ArtifactError, OSError):
        return False
