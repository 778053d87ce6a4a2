"""Results of a sweep, one file per model, so that a sweep that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOMS = ("fxc", "fxc.compiler", "fxc.passes", "fxc.backends", "fxc.kernels")
MEASURING = (
    *(f"models/{name}.py" for name in ("alive", "images", "liven", "metrics", "yolo", "zoo")),
    *(f"conformance/{name}.py" for name in ("layerwise", "norms", "spine")),
    "zoo/one.py",
)
"""What a result depends on under ``tests``."""
TOOLS = ("torch", "torchvision", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Result:
    """One model's measurement, or why there is none.

    Attributes:
        version: of the code that was measured, :func:`code_version`.
        reason: empty where ``row`` is there, else one line.
        row: :class:`tests.conformance.spine.Row` as plain data.
        seconds, peak_gb, cpu_seconds: of the whole process.
    """

    name: str
    version: str
    reason: str
    row: dict[str, Any] | None
    seconds: float
    peak_gb: float
    cpu_seconds: float = 0.0


class Store:
    """A folder of results."""

    def __init__(self, folder: Path, version: str):
        self.folder, self.version = folder, version

    def get(self, name: str, *, any_version: bool = False) -> Result | None:
        """The result of ``name`` measured with this version of the code, or with any; a broken file counts as none."""
        try:
            found = Result(**json.loads(self._path(name).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return found if any_version or found.version == self.version else None

    def finished(self, name: str, *, any_version: bool = False) -> bool:
        """Whether there is a row. A failure is tried again by the next sweep: the cap may have been the machine's fault."""
        found = self.get(name, any_version=any_version)
        return found is not None and not found.reason

    def put(self, result: Result) -> None:
        """Write, all or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(result.name)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
        partial.replace(path)

    def clear(self, names: Iterable[str]) -> None:
        """Forget the results of ``names``."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def code_version() -> str:
    """Twelve hexadecimal digits over fxc's sources, the test models, the measuring code and the versions of the tools."""
    digest = hashlib.sha256()
    for name, path in sorted(_sources()):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    for tool in TOOLS:
        digest.update(f"{tool} {importlib.metadata.version(tool)}\n".encode())
    return digest.hexdigest()[:12]


def _sources() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for room in ROOMS:
        # An editable install and a wheel lay the rooms out differently; the import system knows where each is.
        spec = importlib.util.find_spec(room)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            files = Path(place).glob("*.py") if room == "fxc" else Path(place).rglob("*.py")
            found += [(f"{room}/{file.relative_to(place).as_posix()}", file) for file in files]
    tests = Path(__file__).parents[1]
    return found + [(name, tests / name) for name in MEASURING]
