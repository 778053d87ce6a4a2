"""Graph work that only Core ML needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """None: coremltools has passes of its own."""
    return ()
