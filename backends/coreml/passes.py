"""Graph work that only Core ML needs."""

from __future__ import annotations

from fxc.backends.coreml.channels_first import ChannelsFirst
from fxc.backends.coreml.engine_windows import EngineWindows
from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """For the Neural Engine, what it likes better; else none: coremltools has passes of its own.

    Where activations are quantized, only what leaves the quantizers where they are.
    """
    if target.options.get("ane") != "on":
        return ()
    return (EngineWindows(split=not target.quantized), ChannelsFirst(tokens=not target.quantized))
