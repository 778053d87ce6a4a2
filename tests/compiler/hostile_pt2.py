"""Genuine ``.pt2`` files and hostile ones made of them; each hostile one creates a marker file if its code runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxc.compiler.capture.pt2 import CONSTANTS, MODEL, SAMPLES, WEIGHTS

VICTIM = """
import sys, torch
for path in sys.argv[1:]:
    try:
        torch.export.load(path).module()(torch.ones(2, 3, 8, 8))
    except Exception as error:
        print(path, type(error).__name__, str(error)[-300:])
"""


class Net(nn.Module):
    """A convolution, a lifted constant, symbolic sizes, a nested result."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("gain", torch.linspace(1, 2, 4).reshape(4, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y = self.norm(self.conv(x)).relu() * self.gain + torch.tensor([0.5])
        return {"map": y, "flat": [y.reshape(x.shape[0] * 2, -1)]}


class Evil:
    """Its pickle creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def genuine(path: Path, *, dynamic: bool = True) -> Path:
    """A file written by ``torch.export.save``."""
    torch.manual_seed(0)
    shapes = {"x": {0: torch.export.Dim.DYNAMIC}} if dynamic else None
    program = torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


Change = Callable[[dict[str, bytes]], None]


def rewrite(source: Path, target: Path, change: Change, *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Copy an archive with its members (without the root folder) changed."""
    with zipfile.ZipFile(source) as old:
        root = old.namelist()[0].split("/")[0] + "/"
        members = {name.removeprefix(root): old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", compression) as new:
        for name, data in members.items():
            new.writestr(name[1:] if name.startswith("!") else root + name, data)
    return target


def edit(members: dict[str, bytes], name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON member."""
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


def _pickled_weight(members: dict[str, bytes], marker: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        meta = document["config"]["conv.weight"]
        meta["use_pickle"] = True
        members[f"data/weights/{meta['path_name']}"] = pickle.dumps(Evil(marker))

    edit(members, WEIGHTS, change)


def _pickled_constant(members: dict[str, bytes], marker: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        meta = next(iter(document["config"].values()))
        meta["use_pickle"] = True
        members[f"data/constants/{meta['path_name']}"] = pickle.dumps(Evil(marker))

    edit(members, CONSTANTS, change)


def _opaque_constant(members: dict[str, bytes], marker: Path) -> None:
    members["data/constants/opaque_obj_0"] = pickle.dumps(Evil(marker))
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edit(members, CONSTANTS, lambda document: document["config"].update(evil=meta))


def _expression(members: dict[str, bytes], marker: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        sizes = document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"open({str(marker)!r}, 'w')"

    edit(members, MODEL, change)


def _sample_inputs(members: dict[str, bytes], marker: Path) -> None:
    members[SAMPLES] = pickle.dumps(Evil(marker))


def _placeholder(members: dict[str, bytes], marker: Path) -> None:
    name = json.dumps(f"x=open({str(marker)!r}, 'w')")
    members[MODEL] = members[MODEL].replace(b'"x"', name.encode())


def system_call(members: dict[str, bytes], marker: Path) -> None:
    command = {"name": "", "arg": {"as_string": f"touch {marker}"}, "kind": 1}
    node = {"target": "torch.os.system", "inputs": [command], "outputs": [{"as_none": True}], "metadata": {}}
    edit(members, MODEL, lambda document: document["graph_module"]["graph"]["nodes"].insert(0, node))


def _guard(members: dict[str, bytes], marker: Path) -> None:
    edit(
        members,
        MODEL,
        lambda document: document.update(guards_code=[f"open({str(marker)!r}, 'w') is not None"]),
    )


def _structure(members: dict[str, bytes], marker: Path) -> None:
    folder = marker.parent
    (folder / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\n")
    evil = json.dumps([{"__enum__": True, "fqn": "evil_module:X", "name": "A"}])
    leaf = {"type": None, "context": None, "children_spec": []}
    tree = json.dumps([1, {"type": "builtins.dict", "context": evil, "children_spec": [leaf]}])

    def change(document: dict[str, Any]) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = tree

    edit(members, MODEL, change)


ROUTES: dict[str, Callable[[dict[str, bytes], Path], None]] = {
    "pickled weight": _pickled_weight,
    "pickled constant": _pickled_constant,
    "opaque constant": _opaque_constant,
    "shape expression": _expression,
    "sample inputs": _sample_inputs,
    "placeholder name": _placeholder,
    "structure": _structure,
    "guard": _guard,
}


@dataclass(frozen=True)
class Hostile:
    """A hostile file, its marker, and whether plain ``torch.export.load`` (and one call) made the marker."""

    path: Path
    marker: Path
    ran: bool


def build_all(folder: Path) -> tuple[dict[str, Hostile], str]:
    """Every hostile file, shown to PyTorch in one process of its own; also that process's output."""
    source = genuine(folder / "genuine.pt2")
    files: dict[str, tuple[Path, Path]] = {}
    for number, (name, attack) in enumerate(ROUTES.items()):
        marker = folder / f"marker{number}"
        target = rewrite(source, folder / f"evil{number}.pt2", lambda m, a=attack, k=marker: a(m, k))
        files[name] = (target, marker)
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", VICTIM, *(str(path) for path, _ in files.values())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found: dict[str, Hostile] = {}
    for name, (path, marker) in files.items():
        found[name] = Hostile(path, marker, marker.exists())
        marker.unlink(missing_ok=True)
    return found, done.stdout + done.stderr[-2000:]


def tensor_pickle(value: Any) -> bytes:
    """``torch.save`` of ``value`` as bytes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
