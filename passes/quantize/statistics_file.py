"""Statistics on disk: a folder with ``statistics.json`` (facts, checks) and ``statistics.safetensors`` (numbers)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from fxc.compiler.errors import ArtifactError
from fxc.compiler.files import read_json, reading, regular_files, sha256, write_json
from fxc.compiler.folders import replacing_directory, steady
from fxc.passes.quantize.histogram import BINS, Histogram
from fxc.passes.quantize.statistics import ChannelStats, Statistics, TensorStats

KIND = "fxc statistics"
FORMAT = 1
FACTS = "statistics.json"
NUMBERS = "statistics.safetensors"

_RANGES = ("low", "high", "average_low", "average_high")


def save(statistics: Statistics, path: Path, *, force: bool) -> Path:
    """Write ``statistics`` to the folder ``path``; the same statistics give the same bytes."""
    arrays: dict[str, np.ndarray] = {}
    rows = {name: _encode(name, stats, arrays) for name, stats in sorted(statistics.tensors.items())}
    table = [[getattr(stats, word) for word in _RANGES] for _, stats in sorted(statistics.tensors.items())]
    arrays["ranges"] = np.array(table, dtype=np.float64).reshape(-1, len(_RANGES))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= {f"samples/{i}": x.detach().cpu().contiguous() for i, x in enumerate(statistics.samples)}
    with replacing_directory(path, force=force, removable=is_statistics) as folder:
        # Written here, the file has the rights that the user's umask gives; safetensors' own belongs to one user.
        (folder / NUMBERS).write_bytes(to_bytes(tensors))
        facts = {
            "kind": KIND,
            "format": FORMAT,
            "images": statistics.images,
            "source": statistics.source,
            "fingerprint": statistics.fingerprint,
            "samples": len(statistics.samples),
            "preprocessing": dict(statistics.preprocessing) if statistics.preprocessing else None,
            "tensors": rows,
            "sha256": sha256(folder / NUMBERS),
        }
        write_json(folder / FACTS, facts)
    return path


def load(path: Path) -> Statistics:
    """Statistics from the folder ``path``, or from the path of its ``statistics.json``.

    Raises:
        ArtifactError: missing, damaged, or of another format.
    """
    folder = path.parent if path.name == FACTS else path
    return steady(folder, lambda: _read(folder))


def _read(folder: Path) -> Statistics:
    file = folder / FACTS
    if not file.is_file():
        raise ArtifactError(
            "there are no calibration statistics here",
            where=str(folder),
            why=f"no {FACTS} in this folder",
            fix="give the folder that fxc calibrate -o wrote",
        )
    with reading(file):
        facts = read_json(file)
        _check_facts(facts)
    numbers = folder / NUMBERS
    with reading(numbers):
        if sha256(numbers) != facts["sha256"]:
            raise ArtifactError(
                f"{NUMBERS} was changed after it was written", fix="copy the folder again, or calibrate again"
            )
        return _decode(facts, load_file(numbers))


def is_statistics(path: Path) -> bool:
    """Whether the folder holds statistics and nothing else."""
    try:
        return set(regular_files(path)) == {FACTS, NUMBERS} and read_json(path / FACTS).get("kind") == KIND
    except (ArtifactError, AttributeError):
        return False


def _check_facts(facts: Any) -> None:
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise ArtifactError("this is no file of calibration statistics")
    if facts.get("format") != FORMAT:
        raise ArtifactError(
            f"the statistics have format {str(facts.get('format'))[:20]}, this fxc reads {FORMAT}",
            fix="install the fxc that wrote them, or calibrate again",
        )
    if not isinstance(facts["images"], int) or facts["images"] < 1 or not isinstance(facts["source"], str):
        raise ArtifactError("the facts contradict themselves: images and source")
    if not isinstance(facts["preprocessing"], (dict, type(None))):
        raise ArtifactError("preprocessing is no mapping")


def _encode(name: str, stats: TensorStats, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"batches": stats.batches}
    if stats.histogram is not None:
        arrays[f"{name}.histogram"] = stats.histogram.counts
        row.update(limit=stats.histogram.limit, zeros=stats.histogram.zeros)
    if stats.channels is not None:
        channels = stats.channels
        arrays[f"{name}.channels"] = np.stack([channels.total, channels.low, channels.high])
        row.update(axis=channels.axis, count=channels.count)
    return row


def _decode(facts: Mapping[str, Any], found: Mapping[str, Tensor]) -> Statistics:
    samples = tuple(found[f"samples/{i}"].clone() for i in range(int(facts["samples"])))
    arrays = {name: x.numpy().copy() for name, x in found.items() if not name.startswith("samples/")}
    table = arrays["ranges"]
    rows = facts["tensors"]
    if table.shape != (len(rows), len(_RANGES)) or table.dtype != np.float64:
        raise ArtifactError("the table of ranges does not fit the list of tensors")
    tensors = {
        name: _decode_one(name, row, arrays, [float(v) for v in ranges])
        for (name, row), ranges in zip(sorted(rows.items()), table, strict=True)
    }
    return Statistics(
        tensors,
        facts["images"],
        facts["source"],
        str(facts["fingerprint"]),
        samples,
        facts["preprocessing"],
    )


def _decode_one(
    name: str, row: Mapping[str, Any], arrays: Mapping[str, np.ndarray], ranges: list[float]
) -> TensorStats:
    low, high, average_low, average_high = ranges
    batches = int(row["batches"])
    if batches and not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ArtifactError(f"the range of {name} is not a range: [{low}, {high}]")
    histogram = None
    if "limit" in row:
        counts = arrays[f"{name}.histogram"]
        if counts.shape != (BINS,) or counts.dtype != np.int64 or not 0.0 < float(row["limit"]) < math.inf:
            raise ArtifactError(f"the histogram of {name} is malformed")
        histogram = Histogram(float(row["limit"]), counts, int(row["zeros"]))
    channels = None
    if "axis" in row:
        total, smallest, largest = arrays[f"{name}.channels"]
        channels = ChannelStats(int(row["axis"]), total, int(row["count"]), smallest, largest)
    return TensorStats(low, high, average_low, average_high, histogram, batches, channels)
