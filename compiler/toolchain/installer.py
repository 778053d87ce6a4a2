"""What makes an environment and fills it: uv where there is one, else Python's own venv and pip."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fxc.compiler.errors import ToolchainError
from fxc.compiler.toolchain.spec import Toolchain

_PROBE_SECONDS = 30


class Installer(Protocol):
    """The two commands of an installation.

    Attributes:
        name: ``"uv"`` or ``"pip"``.
    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    def create(self, toolchain: Toolchain, folder: Path) -> list[str]:
        """The command that makes an environment in ``folder``, which exists.

        Raises:
            ToolchainError: no Python that the toolkit has wheels for.
        """
        ...

    def fill(self, python: Path, requirements: Sequence[str], constraints: Path) -> list[str]:
        """The command that installs ``requirements`` into the environment of ``python``."""
        ...


@dataclass(frozen=True)
class Uv:
    """uv, which also fetches a Python where the system has none that fits."""

    program: str
    name: str = "uv"

    def create(self, toolchain: Toolchain, folder: Path) -> list[str]:
        """See :class:`Installer`."""
        wanted = sys.executable if _fits(toolchain) else toolchain.pythons[0]
        return [self.program, "venv", "--allow-existing", "--python", wanted, str(folder)]

    def fill(self, python: Path, requirements: Sequence[str], constraints: Path) -> list[str]:
        """See :class:`Installer`."""
        start = [self.program, "pip", "install", "--color", "never", "--python", str(python)]
        return [*start, "--constraint", str(constraints), *requirements]


@dataclass(frozen=True)
class Pip:
    """venv and pip, which every Python should have."""

    name: str = "pip"

    def create(self, toolchain: Toolchain, folder: Path) -> list[str]:
        """See :class:`Installer`."""
        return [_python(toolchain), "-m", "venv", str(folder)]

    def fill(self, python: Path, requirements: Sequence[str], constraints: Path) -> list[str]:
        """See :class:`Installer`."""
        start = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        return [*start, "--progress-bar", "off", "--constraint", str(constraints), *requirements]


def find_installer() -> Installer:
    """uv if it runs, else pip."""
    return next((Uv(program) for program in _uvs() if _runs(program)), None) or Pip()


def _uvs() -> Iterator[str]:
    """Where uv may be: beside our Python, as a package of it, on PATH."""
    yield str(Path(sys.executable).with_name("uv"))
    if importlib.util.find_spec("uv") is not None:
        import uv

        with suppress(FileNotFoundError, AttributeError):
            yield os.fspath(uv.find_uv_bin())
    if found := shutil.which("uv"):
        yield found


def _runs(program: str, *arguments: str) -> bool:
    # A shim on PATH may stand for a program that is not there.
    try:
        done = subprocess.run(
            [program, *(arguments or ("--version",))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _fits(toolchain: Toolchain) -> bool:
    return not toolchain.pythons or "{}.{}".format(*sys.version_info) in toolchain.pythons


def _python(toolchain: Toolchain) -> str:
    if _fits(toolchain):
        return sys.executable
    for version in toolchain.pythons:
        found = shutil.which(f"python{version}")
        if found and _runs(found, "-c", "import venv, ensurepip"):
            return found
    raise ToolchainError(
        f"no Python for the toolchain {toolchain.name}",
        why=f"{toolchain.package} {toolchain.version} has wheels for Python {', '.join(toolchain.pythons)}; "
        f"fxc runs in {sys.version_info.major}.{sys.version_info.minor}, and PATH has none of them",
        fix="pip install uv, which fetches a Python that fits, and run it again",
    )
