"""The kit as files of a bundle."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fxc.backends.rknn.names import REQUEST
from fxc.compiler.files import write_json

_FIRST = {"build_rknn.py": ("fxc.backends.rknn.kit", "build_rknn1.py")}
_SCRIPTS = {
    "build_rknn.py": ("fxc.backends.rknn", "worker.py"),
    "run_rknn.py": ("fxc.backends.rknn.kit", "run_rknn.py"),
}


def copy_kit(directory: Path, recipe: dict[str, Any], *, first: bool = False) -> tuple[str, ...]:
    """Write the scripts, and what the first of them is asked, into ``directory``.

    Args:
        first: for the first generation of the toolkit.

    Returns:
        The files' names.
    """
    scripts = _FIRST if first else _SCRIPTS
    for name, (package, script) in scripts.items():
        (directory / name).write_bytes((files(package) / script).read_bytes())
    write_json(directory / REQUEST, recipe)
    return (*scripts, REQUEST)
