"""The two files in which TensorRT up to 10.x is told what is int8: a calibration cache, and a list of layers' precisions.

The cache's first line is ``TRT-<version>-EntropyCalibration2``; a line for each tensor has its name, a colon, and its scale as
the eight hexadecimal digits of a float32, most significant first. Source: NVIDIA's Q/DQ translator for DLA.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from fxc.compiler.errors import ArtifactError

_HEAD = "TRT-{}-EntropyCalibration2"


def cache_text(scales: Mapping[str, float], tensorrt: str) -> str:
    """A calibration cache.

    Args:
        scales: tensor name to scale, which is the largest magnitude over 127.
        tensorrt: the version that it is written for, ``"8.5"``.
    """
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in sorted(scales.items())]
    return "\n".join([_HEAD.format(_number(tensorrt)), *lines, ""])


def read_cache(text: str) -> dict[str, float]:
    """The scales of a calibration cache by tensor name; float32 values.

    Raises:
        ArtifactError: a line that is none of a cache.
    """
    head, *lines = text.splitlines() or [""]
    if not (head.startswith("TRT-") and "Calibration" in head):
        raise ArtifactError(f"this is no calibration cache: it begins with {head[:40]!r}")
    found = {}
    for number, line in enumerate(filter(None, lines), 2):
        name, _, digits = line.rpartition(": ")
        try:
            (found[name],) = struct.unpack(">f", bytes.fromhex(digits))
        except (ValueError, struct.error) as error:
            raise ArtifactError(
                f"line {number} of the calibration cache has no scale: {line[:60]!r}"
            ) from error
    return found


def precisions_text(layers: Iterable[str]) -> str:
    """Layers that compute in float16, as ``trtexec --layerPrecisions`` takes them."""
    return ",".join(f"{layer}:fp16" for layer in layers)


def _number(version: str) -> int:
    """The version as NvInferVersion.h has it: 8500, 100300."""
    major, minor = map(int, version.split("."))
    return major * (10000 if major >= 10 else 1000) + minor * 100
