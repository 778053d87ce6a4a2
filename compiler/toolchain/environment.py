"""Where a toolchain's environment is, and whether it can be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.files import read_json
from fxc.compiler.toolchain.places import toolchains_folder
from fxc.compiler.toolchain.spec import Toolchain

STAMP = "fxc-toolchain.json"
"""Says that fxc made the folder and, once everything else is in place, that it is ready."""

State = Literal["ready", "incomplete", "missing"]

_LATER = ("PYTHON", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "CONDA_PREFIX")
"""How the variables begin that would make another Python behave as the one that fxc runs in."""


@dataclass(frozen=True)
class Environment:
    """The place of a toolchain, whether or not it is there."""

    toolchain: Toolchain
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def lock(self) -> Path:
        """The lock file beside it."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def log(self) -> Path:
        """What the last installation said, beside it."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def variables(self) -> dict[str, str]:
        """The environment variables for a process in it: ours without what concerns our Python, and the toolkit's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_LATER)}
        return {**kept, "PYTHONNOUSERSITE": "1", **self.toolchain.variables}


@dataclass(frozen=True)
class Status:
    """What was found at an environment's place.

    Attributes:
        state: ``"ready"``, ``"incomplete"`` (also: damaged, or of other versions) or ``"missing"``.
        version: the installed version of the toolkit, if it is ready.
        size: bytes on disk.
        why: why it is incomplete.
    """

    state: State
    version: str = ""
    size: int = 0
    why: str = ""


def environment(toolchain: Toolchain) -> Environment:
    """The place of ``toolchain`` in the user's cache folder."""
    return Environment(toolchain, toolchains_folder() / toolchain.name)


def status(env: Environment) -> Status:
    """Look at an environment without starting anything in it.

    Raises:
        ToolchainError: the folder cannot be looked at.
    """
    try:
        if not os.path.lexists(env.folder):
            return Status("missing")
        if env.folder.is_symlink() or not env.folder.is_dir():
            return Status("incomplete", why="what is there is not a folder")
        stamp = read_stamp(env)
        if why := _unfit(env, stamp):
            return Status("incomplete", size=size(env.folder), why=why)
    except OSError as error:
        raise ToolchainError(
            f"cannot look at the toolchain {env.toolchain.name}: {error.strerror}", where=str(error.filename)
        ) from error
    return Status("ready", str(stamp.get("version", "")), int(stamp.get("size", 0)))


def require(toolchain: Toolchain) -> Environment:
    """The environment of ``toolchain``, ready for use.

    Raises:
        ToolchainError: it is not installed, or not completely; the message names the command.
    """
    env = environment(toolchain)
    found = status(env)
    if found.state == "ready":
        return env
    said = "is not installed" if found.state == "missing" else "is not installed completely"
    raise ToolchainError(
        f"the toolchain {toolchain.name} {said}",
        where=str(env.folder),
        why=found.why or f"it needs {toolchain.package} in an environment of its own",
        fix=toolchain.command,
    )


def stamp_of(toolchain: Toolchain, *, ready: bool, version: str = "", size: int = 0) -> dict[str, Any]:
    """The stamp of an environment that is being made, or is ready."""
    wanted = {"requirements": list(toolchain.requirements), "constraints": list(toolchain.constraints)}
    return {"name": toolchain.name, **wanted, "ready": ready, "version": version, "size": size}


def read_stamp(env: Environment) -> Mapping[str, Any]:
    """The stamp of an environment; empty where there is none that can be read."""
    try:
        found = read_json(env.folder / STAMP)
    except ArtifactError:
        return {}
    return found if isinstance(found, dict) else {}


def size(folder: Path) -> int:
    """Bytes of the files below ``folder``; links count for nothing, and what vanishes meanwhile too."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                facts = os.lstat(os.path.join(path, name))
            except FileNotFoundError:
                continue
            total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def _unfit(env: Environment, stamp: Mapping[str, Any]) -> str:
    wanted = stamp_of(env.toolchain, ready=True)
    if stamp.get("ready") is not True:
        return "an installation of it did not end"
    if any(stamp.get(key) != wanted[key] for key in ("requirements", "constraints")):
        return f"it was installed for other versions than {env.toolchain.package} {env.toolchain.version}"
    if not os.access(env.python, os.X_OK):
        return "its Python interpreter is gone"
    return ""
