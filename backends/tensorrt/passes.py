"""Graph work that only TensorRT needs."""

from __future__ import annotations

from fxc.backends.tensorrt.dla_pool import DlaPool
from fxc.backends.tensorrt.target import on_dla
from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """For the GPU none: TensorRT's parser takes the ONNX forms, and fuses attention, activations and residual sums itself."""
    return (DlaPool(),) if on_dla(target) else ()
