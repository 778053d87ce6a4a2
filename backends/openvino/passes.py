"""Graph work that only OpenVINO needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """Nothing so far: every operator goes to OpenVINO whole, attention included, and is fused there."""
    return ()
