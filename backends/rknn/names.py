"""The files of a bundle for a Rockchip NPU."""

from __future__ import annotations

from pathlib import Path

MODEL = "model.onnx"
"""What the NPU is meant to compute; ONNX Runtime executes it."""
TOOLKIT = "model.toolkit.onnx"
"""The same with the numbers as the toolkit must read them, and from behind a normalisation that the board does; where it is
not written, the toolkit reads the other one."""
RANGES = "model.ranges.json"
"""For int16: lowest and highest value of each tensor of the float file; and a sample, which the toolkit wants too."""
SAMPLE = "sample_{}.npy"
RKNN = "model.rknn"
REQUEST = "build_rknn.json"
"""What the toolkit is asked."""
LOG = "rknn.log"
"""What the toolkit said while it built."""


def source(directory: Path) -> str:
    """The file that the toolkit builds from."""
    return TOOLKIT if (directory / TOOLKIT).exists() else MODEL
