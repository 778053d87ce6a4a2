"""The kit as files of a bundle."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fxc.compiler.files import write_json

_SCRIPTS = ("build_rknn.py", "run_rknn.py")
_SETTINGS = "build_rknn.json"


def copy_kit(directory: Path, model: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Write the scripts, and the settings of the build, into ``directory``.

    Args:
        model: the file to build from.
        config: keywords of ``RKNN.config``.

    Returns:
        The files' names.
    """
    for name in _SCRIPTS:
        source = files("fxc.backends.rknn.kit") / name
        (directory / name).write_bytes(source.read_bytes())
    write_json(directory / _SETTINGS, {"model": model, "config": config})
    return (*_SCRIPTS, _SETTINGS)
