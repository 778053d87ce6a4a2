"""Making a toolchain's environment, so that an interruption at any point leaves it ready, or known not to be."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from fxc.compiler.errors import ToolchainError
from fxc.compiler.files import json_text
from fxc.compiler.scratch import WorkFolder
from fxc.compiler.toolchain.environment import STAMP, Environment, environment, size, stamp_of, status
from fxc.compiler.toolchain.failures import explain_failure, explain_folder
from fxc.compiler.toolchain.installer import Installer, find_installer
from fxc.compiler.toolchain.lock import changing
from fxc.compiler.toolchain.process import supervise
from fxc.compiler.toolchain.remove import clear
from fxc.compiler.toolchain.spec import Toolchain

INSTALL_SECONDS = 4 * 3600
"""Time limit for all downloads: 5 GB over a slow line."""
VERIFY_SECONDS = 600
"""Time limit for the first import of a toolkit, which reads gigabytes from a cold disk."""

_VERSION = "fxc-version: "
_PROBE = "import importlib, importlib.metadata, sys; importlib.import_module(sys.argv[1]); "
_PROBE += f"print('\\n{_VERSION}' + importlib.metadata.version(sys.argv[2]))"
_TOLD = re.compile(r"Download|Building|Resolved|Prepared|Installed|Collecting|Installing|Successfully", re.A)

Report = Callable[[str], None]


def install(toolchain: Toolchain, report: Report, installer: Installer | None = None) -> Environment:
    """Make the environment of ``toolchain``, or finish what an interrupted installation began.

    What is there and ready is checked, not made again. An environment that is not ready is made anew in its final folder;
    finished downloads are in the installer's own cache. The stamp that makes it valid is written last, in one step.

    Args:
        toolchain: what to install.
        report: called with each line of progress.
        installer: uv or pip; by default what is found.

    Raises:
        ToolchainError: this machine or Python does not fit, the disk is full or cannot be written, the network is gone,
            or the toolkit does not import afterwards.
    """
    env = environment(toolchain)
    _check_machine(toolchain)
    if status(env).state == "ready":
        report(f"{toolchain.name} is in {env.folder}")
        with WorkFolder("verify") as work:
            _verified(env, report, Path(work) / "log.txt")
        return env
    try:
        env.folder.parent.mkdir(parents=True, exist_ok=True)
        with changing(env.lock, lambda: report("another process changes it: waiting")) as handle:
            if status(env).state != "ready":
                _make(env, installer or find_installer(), report, handle)
    except OSError as error:
        raise explain_folder(toolchain, "installed", error, env.folder) from error
    return env


def _make(env: Environment, installer: Installer, report: Report, handle: int) -> None:
    clear(env)
    _check_space(env)
    with suppress(FileNotFoundError):
        env.log.unlink()
    creation = installer.create(env.toolchain, env.folder)
    env.folder.mkdir()
    _stamp(env, ready=False)
    report(f"environment: {env.folder}, by {installer.name}")
    _step(env, "making the environment", creation, handle, report)
    constraints = env.folder / "constraints.txt"
    constraints.write_text("".join(f"{text}\n" for text in env.toolchain.constraints), encoding="utf-8")
    report(f"packages: {' '.join(env.toolchain.requirements)}; log: {env.log}")
    filling = installer.fill(env.python, env.toolchain.requirements, constraints)
    _step(env, "installing the packages", filling, handle, report)
    version = _verified(env, report, env.log, handle)
    _stamp(env, ready=True, version=version, bytes_used=size(env.folder))


def _step(env: Environment, step: str, command: list[str], handle: int, report: Report) -> None:
    outcome = supervise(
        command,
        folder=env.folder,
        log=env.log,
        seconds=INSTALL_SECONDS,
        variables=env.variables(),
        line=lambda text: report(f"  {text.strip()}") if _TOLD.search(text) else None,
        keep=(handle,),
    )
    if not outcome.done:
        raise explain_failure(env.toolchain, step, env.log, outcome)


def _verified(env: Environment, report: Report, log: Path, *keep: int) -> str:
    """The version of the toolkit, which its environment can import."""
    tool = env.toolchain
    report(f"verify: import {tool.module}")
    found: list[str] = []
    outcome = supervise(
        [str(env.python), "-I", "-c", _PROBE, tool.module, tool.package],
        folder=env.folder.parent,
        log=log,
        seconds=VERIFY_SECONDS,
        variables=env.variables(),
        line=lambda text: found.append(text[len(_VERSION) :]) if text.startswith(_VERSION) else None,
        keep=keep,
    )
    if not outcome.done or not found or (tool.version and found[-1] != tool.version):
        _unusable(env, found, outcome.words(), outcome.said)
    report(f"{tool.package} {found[-1]} imports")
    return found[-1]


def _unusable(env: Environment, found: list[str], words: str, said: tuple[str, ...]) -> NoReturn:
    tool = env.toolchain
    what = f"has {tool.package} {found[-1]}" if found else f"cannot import {tool.module}: Python {words}"
    raise ToolchainError(
        f"the toolchain {tool.name} is damaged: it {what}",
        where=str(env.folder),
        why="\n         ".join(said) or f"{tool.package} {tool.version} should be there",
        fix=f"fxc toolchain remove {tool.name}, then {tool.command}",
    )


def _check_machine(toolchain: Toolchain) -> None:
    here = f"{sys.platform}-{platform.machine().lower()}"
    if toolchain.machines and here not in toolchain.machines:
        raise ToolchainError(
            f"the toolchain {toolchain.name} does not run on this machine",
            why=f"{toolchain.package} has wheels for {', '.join(toolchain.machines)}; this is {here}",
            fix="compile on one of those",
        )


def _check_space(env: Environment) -> None:
    free, need = shutil.disk_usage(env.folder.parent).free, env.toolchain.space
    if free < need:
        raise ToolchainError(
            f"the toolchain {env.toolchain.name} cannot be installed: too little space",
            where=str(env.folder.parent),
            why=f"it takes {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free",
            fix="free space, or set FXC_CACHE to a folder on another disk",
        )


def _stamp(env: Environment, *, ready: bool, version: str = "", bytes_used: int = 0) -> None:
    """Write the stamp so that it is there whole, or not at all."""
    text = json_text(stamp_of(env.toolchain, ready=ready, version=version, size=bytes_used))
    temporary = env.folder / f".{STAMP}"
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(env.folder / STAMP)
