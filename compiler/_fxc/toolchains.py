"""The toolchains that live in environments of their own, by name. Nothing is imported until it is asked for."""

from __future__ import annotations

import difflib

from fxc.catalogue import resolve
from fxc.compiler.errors import UsageError
from fxc.compiler.toolchain.spec import Toolchain

TOOLCHAINS = {
    "rknn": "fxc.backends.rknn.toolchain:RKNN",
}


def toolchain(name: str) -> Toolchain:
    """The toolchain called ``name``.

    Raises:
        UsageError: there is none.
    """
    if name not in TOOLCHAINS:
        near = difflib.get_close_matches(name, TOOLCHAINS)
        raise UsageError(
            f"unknown toolchain {name!r}", fix=f"one of: {', '.join(near or TOOLCHAINS)} (fxc toolchain list)"
        )
    found = resolve(TOOLCHAINS[name])
    assert isinstance(found, Toolchain)
    return found


def toolchains() -> list[Toolchain]:
    """All of them."""
    return [toolchain(name) for name in TOOLCHAINS]
