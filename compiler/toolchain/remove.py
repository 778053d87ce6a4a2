"""Removing a toolchain's environment: only a folder that fxc made, and never what a link in it leads to."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from fxc.compiler.errors import ToolchainError
from fxc.compiler.scratch import aside
from fxc.compiler.toolchain.environment import STAMP, Environment, environment, size, status
from fxc.compiler.toolchain.failures import explain_folder
from fxc.compiler.toolchain.lock import changing
from fxc.compiler.toolchain.spec import Toolchain


def remove(toolchain: Toolchain) -> int:
    """Delete the environment of ``toolchain``; the bytes that it took. One that is missing is no error.

    Raises:
        ToolchainError: another process uses it, the folder is not one that fxc made, or it cannot be changed.
    """
    env = environment(toolchain)
    if not env.folder.parent.is_dir():
        return 0
    try:
        with changing(env.lock, lambda: _in_use(env)):
            freed = 0 if status(env).state == "missing" else size(env.folder)
            clear(env)
            env.log.unlink(missing_ok=True)
    except OSError as error:
        raise explain_folder(toolchain, "removed", error, env.folder) from error
    return freed


def clear(env: Environment) -> None:
    """Delete what is at the environment's place and what an interrupted removal left beside it; its lock is held.

    It is moved aside in one step first, so that an interruption leaves nothing that looks like an environment.

    Raises:
        ToolchainError: what is there is not fxc's to delete.
        OSError: it cannot be deleted.
    """
    if os.path.lexists(env.folder):
        _check_ours(env)
        os.rename(env.folder, aside(env.folder))
    for left in _leftovers(env):
        shutil.rmtree(left)


def _leftovers(env: Environment) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(env.folder.name)}\.fxc-old-\d+-[0-9a-f]{{8}}")
    beside = env.folder.parent.iterdir()
    return [path for path in beside if pattern.fullmatch(path.name) and not path.is_symlink()]


def _check_ours(env: Environment) -> None:
    folder = env.folder
    link = folder.is_symlink() or not folder.is_dir()
    if link or (any(folder.iterdir()) and not _has_stamp(folder)):
        raise ToolchainError(
            f"what is at the place of the toolchain {env.toolchain.name} was not made by fxc",
            where=str(folder),
            why="it is a link or a file" if link else f"there is no {STAMP} in it",
            fix="move it away yourself, or set FXC_CACHE to another folder",
        )


def _has_stamp(folder: Path) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and not stamp.is_symlink()


def _in_use(env: Environment) -> None:
    raise ToolchainError(
        f"the toolchain {env.toolchain.name} is in use",
        where=str(env.folder),
        why="another process installs it or works with it",
        fix="run it again when that has ended",
    )
