"""Graph work that only Core AI needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """None: what coreai-torch wants otherwise is spelled so when it is emitted."""
    return ()
