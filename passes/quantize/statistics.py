"""What calibration remembers of a program's tensors, in memory that does not grow with the data.

Minimum and maximum, their moving averages over batches, and where they are asked for a histogram and each channel's
mean and extremes. Statistics are a thing of their own: they are saved, merged across runs, and serve every target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.passes.quantize.histogram import BINS, Histogram

__all__ = ["BINS", "ChannelStats", "Histogram", "Statistics", "TensorStats", "Want"]

_MOMENTUM = 0.1
"""Weight of the newest batch in the moving average, PyTorch's default for MovingAverageMinMaxObserver is 0.01 per
step on long runs; calibration sees tens of batches."""


@dataclass(frozen=True)
class Want:
    """What to record of one tensor beside its extremes.

    Attributes:
        histogram: counts of its values.
        channels: axis of the channels whose means and extremes are kept apart, ``None`` for none.
    """

    histogram: bool = False
    channels: int | None = None

    def joined(self, other: Want) -> Want:
        """Everything that either wants; the axis is the first one's."""
        axis = self.channels if self.channels is not None else other.channels
        return Want(self.histogram or other.histogram, axis)


@dataclass(frozen=True)
class ChannelStats:
    """Statistics of each channel of one tensor.

    Attributes:
        axis: of the channels.
        total: sum of each channel's values, float64 ``[C]``.
        count: values per channel.
        low, high: extremes of each channel, float64 ``[C]``.
    """

    axis: int
    total: np.ndarray
    count: int
    low: np.ndarray
    high: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel, float64 ``[C]``."""
        return self.total / max(self.count, 1)

    @classmethod
    def of(cls, x: Tensor, axis: int) -> ChannelStats:
        """Statistics of one batch, a float tensor with ``axis`` among its dimensions."""
        others = [d for d in range(x.dim()) if d != axis % x.dim()]
        low, high = (x.amin(others), x.amax(others)) if others else (x, x)
        total = x.sum(others, dtype=torch.float64) if others else x.double()
        count = x.numel() // x.shape[axis]
        return cls(axis, total.numpy(), count, low.double().numpy(), high.double().numpy())

    def merged(self, other: ChannelStats) -> ChannelStats:
        """Both together.

        Raises:
            CalibrationError: another axis or number of channels.
        """
        if self.axis != other.axis or self.total.shape != other.total.shape:
            raise CalibrationError(
                "channel statistics of two different tensors cannot be merged",
                why=f"{self.total.size} channels on axis {self.axis}, {other.total.size} on axis {other.axis}",
            )
        return ChannelStats(
            self.axis,
            self.total + other.total,
            self.count + other.count,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )


@dataclass
class TensorStats:
    """Statistics of one tensor over the calibration data.

    Attributes:
        low, high: smallest and largest value seen.
        average_low, average_high: exponential moving averages of each batch's extremes.
        histogram: value counts, if an observer needed them.
        batches: number of batches seen.
        channels: each channel's own, if they were asked for.
    """

    low: float = float("inf")
    high: float = float("-inf")
    average_low: float = 0.0
    average_high: float = 0.0
    histogram: Histogram | None = None
    batches: int = 0
    channels: ChannelStats | None = None

    def update(self, x: Tensor, *, histogram: bool = False, channels: int | None = None) -> None:
        """Take in one batch, a float tensor of any shape."""
        if x.numel() == 0:
            return
        x = x.detach()
        if channels is not None and x.dim():
            batch = ChannelStats.of(x, channels)
            self.channels = batch if self.channels is None else self.channels.merged(batch)
        x = dense(x)
        low, high = (float(v) for v in torch.aminmax(x))
        if low != low:  # NaN: min and max would drop it
            low, high = float("-inf"), float("inf")
        weight = _MOMENTUM if self.batches else 1.0
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.average_low += weight * (low - self.average_low)
        self.average_high += weight * (high - self.average_high)
        self.batches += 1
        if histogram and np.isfinite([low, high]).all():
            largest = max(abs(low), abs(high))
            if self.histogram is None:
                self.histogram = Histogram.of(x, largest)
            else:
                self.histogram.add(x, largest)

    def merged(self, other: TensorStats) -> TensorStats:
        """Statistics of two tensors together, for a shared scale."""
        return TensorStats(
            min(self.low, other.low),
            max(self.high, other.high),
            min(self.average_low, other.average_low),
            max(self.average_high, other.average_high),
            _both(self.histogram, other.histogram),
            self.batches + other.batches,
        )

    def extended(self, other: TensorStats) -> TensorStats:
        """Statistics of one tensor over two runs' data, this run's first.

        A histogram or channel statistics that only one run has would describe half of the data: they are dropped.
        """
        if not self.batches or not other.batches:
            return self if self.batches else other
        share = other.batches / (self.batches + other.batches)
        both = self.histogram is not None and other.histogram is not None
        channels = self.channels.merged(other.channels) if self.channels and other.channels else None
        return TensorStats(
            min(self.low, other.low),
            max(self.high, other.high),
            self.average_low + share * (other.average_low - self.average_low),
            self.average_high + share * (other.average_high - self.average_high),
            _both(self.histogram, other.histogram) if both else None,
            self.batches + other.batches,
            channels,
        )


def _both(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    return one.merged(other) if one is not None and other is not None else one or other


def dense(x: Tensor) -> Tensor:
    """The values of ``x`` in the order of memory, where that is one block: reductions over it are several times
    faster than over a channels-last tensor in its logical order."""
    if not x.is_contiguous() and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x


@dataclass
class Statistics:
    """Statistics of a program's tensors, by node name.

    Attributes:
        tensors: node name to statistics.
        images: number of samples seen.
        source: where the data came from, in words: the report shows it.
        fingerprint: of the float program that the data ran through; empty if nobody asked for it.
        samples: a few of the inputs, flat, on which a compile without the data is proven.
        preprocessing: how images became inputs (mean, std, size, layout), for the manifests; ``None`` if nobody said.
    """

    tensors: Mapping[str, TensorStats] = field(default_factory=dict)
    images: int = 0
    source: str = "calibration data"
    fingerprint: str = ""
    samples: tuple[Tensor, ...] = ()
    preprocessing: Mapping[str, Any] | None = None

    def merged(self, other: Statistics) -> Statistics:
        """Statistics over both runs' data; tensors that only one run recorded are left out.

        Raises:
            CalibrationError: they are of different programs.
        """
        if self.fingerprint != other.fingerprint:
            raise CalibrationError(
                "these statistics are of two different programs",
                why="the graphs or the weights differ",
                fix="calibrate both runs with the same model and the same version of fxc",
            )
        names = [name for name in self.tensors if name in other.tensors]
        sources = dict.fromkeys((self.source, other.source))
        return Statistics(
            {name: self.tensors[name].extended(other.tensors[name]) for name in names},
            self.images + other.images,
            " + ".join(sources),
            self.fingerprint,
            self.samples or other.samples,
            self.preprocessing or other.preprocessing,
        )

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Write to the folder ``path``, all or nothing: ``statistics.json`` and ``statistics.safetensors``.

        Raises:
            ArtifactError: the folder holds something else, or cannot be written.
        """
        from fxc.passes.quantize.statistics_file import save

        return save(self, Path(path), force=force)

    @classmethod
    def load(cls, path: Path | str) -> Statistics:
        """Statistics that :meth:`save` wrote.

        Raises:
            ArtifactError: missing, damaged, or of another format.
        """
        from fxc.passes.quantize.statistics_file import load

        return load(Path(path))
