"""How long one exchange with a toolchain may take."""

from __future__ import annotations

import os

from fxc.compiler.errors import UsageError

SECONDS = "FXC_TOOLCHAIN_SECONDS"
"""The environment variable with the time limit of one exchange."""
_SECONDS = 1800.0


def seconds() -> float:
    """The time limit of one exchange with a toolkit.

    Raises:
        UsageError: ``FXC_TOOLCHAIN_SECONDS`` is no positive number.
    """
    given = os.environ.get(SECONDS)
    if not given:
        return _SECONDS
    try:
        found = float(given)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise UsageError(f"{SECONDS} is {given!r}", fix="a number of seconds above 0")
    return found
