"""coreai-core and coreai-torch: whether they are here, in the one version that this room was run with. Torch-free."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fxc.compiler.errors import ToolchainError

CORE, TORCH = "coreai-core", "coreai-torch"
PINNED = {CORE: "1.0.0b3", TORCH: "0.4.3"}
"""Pre-releases, whose interface changes from one to the next: no other version is tried."""
_INSTALL = "pip install 'fxc[coreai]'"


def installed() -> dict[str, str]:
    """Versions of the two packages, those that are there; imports neither."""
    found = {}
    for name in PINNED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def require(*packages: str) -> dict[str, str]:
    """Versions of ``packages``, which are there and pinned.

    Raises:
        ToolchainError: one is missing, or of another version.
    """
    found = installed()
    for name in packages:
        if name not in found:
            raise ToolchainError(
                f"Core AI models are written by coreai-torch and run by coreai-core; {name} is not installed",
                why="they are Apple's, from PyPI, for Python 3.11 and newer",
                fix=_INSTALL,
            )
        if found[name] != PINNED[name]:
            raise ToolchainError(
                f"{name} is here in version {found[name]}, and fxc was made for {PINNED[name]}",
                why="it is a pre-release, whose interface and format change from one version to the next",
                fix=_INSTALL,
            )
    return {name: found[name] for name in packages}
