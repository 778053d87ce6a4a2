"""Graph work that only ONNX Runtime needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """None: attention stays whole and in float, activations are requantized where they are read."""
    return ()
