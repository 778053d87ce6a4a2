"""The product's Python files, found on disk and parsed, for the guards beside this file."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("compiler", "passes", "backends", "kernels", "tools")
FACE = "face"
"""The room name of compiler/_fxc, which imports as ``fxc`` itself."""


@dataclass(frozen=True)
class Source:
    """One file: its room, its path from the repository root, its import name and its syntax tree."""

    room: str
    path: str
    module: str
    tree: ast.Module

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every module or ``module.name`` imported anywhere in the file, functions included, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the five rooms."""
    files = (f for room in ROOMS for f in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in f.parts)
    return tuple(_source(file.relative_to(ROOT)) for file in files)


def _source(path: Path) -> Source:
    parts = path.with_suffix("").parts
    face = parts[:2] == ("compiler", "_fxc")
    named = parts[2:] if face else parts
    module = ".".join(("fxc", *(named[:-1] if named[-1] == "__init__" else named)))
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))
    return Source(FACE if face else parts[0], path.as_posix(), module, tree)


def room_of(module: str) -> str | None:
    """The room that an imported name belongs to; ``None`` for a foreign package."""
    parts = module.split(".")
    if parts[0] != "fxc":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else FACE
