"""What a device answered to a bundle's recorded inputs, beside what this host computed: float, simulated, device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fxc.compiler.device_files import read_outputs
from fxc.compiler.errors import UsageError

if TYPE_CHECKING:
    from fxc.compiler.artifact import Golden

TOLERANCE_DB = 1.0
"""What a device may lose against float beyond what the file lost here: its kernels add in another order and round ties otherwise."""
SLACK_SHARE = 0.01
"""The same of an output of whole numbers or truths, in shares of equal values."""
_SAYS_NOTHING_DB = 100.0
"""Above it two computations differ by the order of float additions only."""

Measure = Callable[[Tensor, Tensor], "float | None"]


@dataclass(frozen=True)
class DeviceOutput:
    """One output, three ways.

    Attributes:
        name: of the output.
        unit: of the five measures: ``"dB"`` (SQNR), or ``"share"`` (of equal values) where the output is not float.
        simulated: the file executed on the host that made the bundle, against the float program; ``None`` if that is zero.
        device: the device's answer, against the float program.
        agreement: the device's answer, against the simulated one.
        floor: the least ``device`` that passes.
        worst: ``agreement`` of the sample where it is lowest, ``worst_sample``; ``None`` where the output has no samples.
        max_difference: the largest of device and simulated, absolute.
        top1: how many of the samples have the same best class on the device as simulated; ``None`` if not scores.
        identical: whether every value is the simulated one.
    """

    name: str
    unit: str
    simulated: float | None
    device: float | None
    agreement: float | None
    floor: float
    worst: float | None
    worst_sample: int | None
    max_difference: float
    top1: float | None
    identical: bool

    @property
    def passed(self) -> bool:
        """Whether the device is close enough to float; beside a float output that is zero, only identity proves anything."""
        return self.identical or (self.device is not None and self.device >= self.floor)


def compare_outputs(
    golden: Golden,
    names: Sequence[str],
    folder: Path | str,
    *,
    report: Mapping[str, Any],
    tolerance_db: float = TOLERANCE_DB,
) -> tuple[DeviceOutput, ...]:
    """Compare the files of a device with the recorded outputs.

    Args:
        golden: what was recorded.
        names: of the flat outputs.
        folder: with ``NAME.npy`` for each output, or ``NAME.0.npy``, ``NAME.1.npy``, … that are joined.
        report: the bundle's; the least accurate of its model files, for a device may have run any, sets the floor.
        tolerance_db: how far below that a device may be.

    Raises:
        ArtifactError: the folder or a file in it cannot be what a device answered; it names the file.
        UsageError: a tolerance below zero.
    """
    if not (math.isfinite(tolerance_db) and tolerance_db >= 0):
        raise UsageError(f"a tolerance of {tolerance_db} dB", fix="zero or more decibels")
    found = read_outputs(Path(folder), names, golden.outputs)
    batch = golden.inputs[0].shape[:1] if golden.inputs else torch.Size()
    rows = zip(names, found, golden.outputs, golden.float_outputs)
    return tuple(
        _compare(name, device, simulated, exact, batch, _recorded(report, name), tolerance_db)
        for name, device, simulated, exact in rows
    )


def _compare(
    name: str,
    device: Tensor,
    simulated: Tensor,
    exact: Tensor,
    batch: torch.Size,
    recorded: Sequence[float],
    tolerance_db: float,
) -> DeviceOutput:
    from fxc.proof import sqnr_db

    decibels = exact.is_floating_point()
    measure: Measure = sqnr_db if decibels else _equal_share
    here = measure(exact, simulated)
    at, worst = _worst(device, simulated, measure, batch)
    return DeviceOutput(
        name,
        "dB" if decibels else "share",
        here,
        measure(exact, device),
        measure(simulated, device),
        _floor([*recorded, *([here] if here is not None else [])], tolerance_db if decibels else SLACK_SHARE),
        worst,
        at,
        _largest_difference(device, simulated),
        _same_best(device, simulated),
        bool(torch.all(device.double() == simulated.double())),
    )


def _recorded(report: Mapping[str, Any], name: str) -> list[float]:
    """What the report says of each of the bundle's files at this output."""
    rows = (report.get("accuracy") or {}).get("outputs", [])
    return [r["file_db"] for r in rows if r.get("name") == name and r.get("file_db") is not None]


def _floor(measured: Sequence[float], slack: float) -> float:
    return min([*measured, _SAYS_NOTHING_DB]) - slack if measured else 0.0


def _equal_share(a: Tensor, b: Tensor) -> float | None:
    return float((a == b).double().mean()) if a.numel() else None


def _worst(
    device: Tensor, simulated: Tensor, measure: Measure, batch: torch.Size
) -> tuple[int | None, float | None]:
    if not batch or simulated.shape[:1] != batch:
        return None, None
    pairs = ((i, measure(simulated[i], device[i])) for i in range(batch[0]))
    rows = [(value, i) for i, value in pairs if value is not None]
    value, place = min(rows, default=(None, None))
    return place, value


def _largest_difference(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    # Equal infinities differ by nothing.
    return float(torch.where(a == b, 0.0, a - b).abs().max()) if a.numel() else 0.0


def _same_best(device: Tensor, simulated: Tensor) -> float | None:
    scores = simulated.dim() == 2 and simulated.is_floating_point() and simulated.shape[1] >= 2
    if not scores or not simulated.numel():
        return None
    return float((device.argmax(1) == simulated.argmax(1)).double().mean())
