"""The files of a bundle for a Rockchip NPU."""

from __future__ import annotations

from fxc.compiler.target import Target

MODEL = "model.onnx"
"""What the NPU is meant to compute; ONNX Runtime executes it."""
TOOLKIT = "model.toolkit.onnx"
"""The same with the numbers as the toolkit must read them; only int8 needs it."""
RANGES = "model.ranges.json"
"""For int16: lowest and highest value of each tensor of the float file; and a sample, which the toolkit wants too."""
SAMPLE = "sample_{}.npy"
RKNN = "model.rknn"
LOG = "rknn.log"
"""What the toolkit said while it built."""


def source(target: Target) -> str:
    """The file that the toolkit builds from."""
    return TOOLKIT if target.precision == "int8" else MODEL
