"""Where fxc keeps what takes long to get: the user's cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fxc.compiler.errors import ToolchainError

VARIABLE = "FXC_CACHE"
"""The environment variable that names another folder."""


def cache_folder() -> Path:
    """``FXC_CACHE``, else ``fxc`` in the user's cache folder as the system has it (``XDG_CACHE_HOME`` on Linux).

    Raises:
        ToolchainError: this user has no home folder.
    """
    if given := os.environ.get(VARIABLE):
        return Path(os.path.abspath(os.path.expanduser(given)))
    return _user_caches() / "fxc"


def toolchains_folder() -> Path:
    """The folder of all toolchains."""
    return cache_folder() / "toolchains"


def _user_caches() -> Path:
    # The specification of base folders wants a relative path to be ignored.
    if (given := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return given
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ToolchainError(
            "this user has no home folder", fix=f"set {VARIABLE} to a folder that you may write"
        ) from error
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
