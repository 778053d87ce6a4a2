"""Graph work that only TensorRT needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """None: TensorRT's parser takes the ONNX forms, and fuses attention, activations and residual sums itself."""
    return ()
