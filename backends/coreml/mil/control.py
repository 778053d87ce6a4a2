"""MIL's control flow. These operators get their blocks as functions, before their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxc.backends.coreml.mil.operator import Values, table

Branch = Callable[..., tuple[Any, ...]]
_STEPS = 1_000_000


def cond(true: Branch, false: Branch, /, pred: bool) -> tuple[Any, ...]:
    """One branch or the other."""
    return true() if pred else false()


def while_loop(condition: Branch, body: Branch, /, loop_vars: Values) -> tuple[Any, ...]:
    """The body's results again and again, as long as the condition holds of them.

    Raises:
        RuntimeError: it did not end within a million rounds.
    """
    values = tuple(loop_vars)
    for _ in range(_STEPS):
        if not condition(*values)[0]:
            return values
        values = body(*values)
    raise RuntimeError(f"the loop did not end within {_STEPS} rounds")


CONTROL = table((cond, while_loop))
