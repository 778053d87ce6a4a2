"""Weights in few bits, by coremltools' own optimizer on the converted model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fxc.backends.coreml.toolchain import coremltools
from fxc.compiler.target import Target

THRESHOLD = 512
"""Weights of fewer numbers stay float16: their scales would weigh as much."""
BLOCK = 32
"""Input channels that share a scale in four bits."""
GROUP = 16
"""Output channels that share a table of sixteen."""


def candidates(target: Target, model: Any) -> dict[str, Callable[[], Any]]:
    """Ways to compress ``model`` for ``target``, by what they are called; none where its weights stay as they are."""
    if target.precision == "w8":
        return {"eight bits, a scale for each output channel": lambda: _linear(model, "int8", "per_channel")}
    if target.precision == "w4":
        return {
            f"four bits, a scale for {BLOCK} input channels": lambda: _linear(model, "int4", "per_block"),
            f"a table of 16 numbers for {GROUP} output channels": lambda: _table(model),
        }
    return {}


def _linear(model: Any, dtype: str, granularity: str) -> Any:
    optimize = coremltools("optimize.coreml")
    config = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=dtype,
        granularity=granularity,
        block_size=BLOCK,
        weight_threshold=THRESHOLD,
    )
    return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(config))


def _table(model: Any) -> Any:
    optimize = coremltools("optimize.coreml")
    config = optimize.OpPalettizerConfig(
        mode="kmeans",
        nbits=4,
        granularity="per_grouped_channel",
        group_size=GROUP,
        weight_threshold=THRESHOLD,
    )
    return optimize.palettize_weights(model, optimize.OptimizationConfig(config))
