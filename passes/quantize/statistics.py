"""What calibration remembers of a tensor, in memory that does not grow with the data.

Minimum and maximum, their moving averages over batches, and (where an observer asks) a histogram whose range doubles
when a value falls outside: pairs of bins merge exactly, so nothing already counted is lost or moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

BINS = 4096
_MOMENTUM = 0.1
"""Weight of the newest batch in the moving average, PyTorch's default for MovingAverageMinMaxObserver is 0.01 per
step on long runs; calibration sees tens of batches."""


@dataclass
class Histogram:
    """Counts of values over ``[-limit, limit)`` in :data:`BINS` equal bins, and of exact zeros apart.

    Attributes:
        limit: half width of the range, in the tensor's units; a power of two times the first batch's largest value.
        counts: int64 ``[BINS]``, exact zeros not included.
        zeros: number of exact zeros (a ReLU's spike must not steer a range search).
    """

    limit: float
    counts: np.ndarray
    zeros: int = 0

    @classmethod
    def of(cls, x: Tensor, largest: float) -> Histogram:
        """A histogram that fits ``x``, whose largest magnitude is ``largest``, and holds it."""
        limit = float(2.0 ** np.ceil(np.log2(max(largest, 1e-30)) + 1e-9))
        histogram = cls(limit, np.zeros(BINS, dtype=np.int64))
        histogram.add(x, largest)
        return histogram

    def add(self, x: Tensor, largest: float) -> None:
        """Count the values of ``x`` (float, any shape)."""
        while largest > self.limit:
            self._double()
        index = (x.detach().reshape(-1) * (BINS / (2 * self.limit))).add_(BINS / 2).to(torch.int32)
        self.counts += torch.bincount(index.clamp_(0, BINS - 1), minlength=BINS).numpy()
        zeros = int(x.numel() - torch.count_nonzero(x))
        self.counts[BINS // 2] -= zeros
        self.zeros += zeros

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), pairs, np.zeros(BINS // 4, np.int64)])
        self.limit *= 2

    def merged(self, other: Histogram) -> Histogram:
        """Both histograms' counts in one."""
        a, b = self.copy(), other.copy()
        while a.limit != b.limit:
            ratio = a.limit / b.limit
            if not float(np.log2(ratio)).is_integer():
                b = b.resampled(2.0 ** np.ceil(np.log2(b.limit)))
                a = a.resampled(2.0 ** np.ceil(np.log2(a.limit)))
                continue
            (a if a.limit < b.limit else b)._double()
        return Histogram(a.limit, a.counts + b.counts, a.zeros + b.zeros)

    def resampled(self, limit: float) -> Histogram:
        """The same counts over another range, each bin's count put where its centre falls."""
        index = ((self.centres() + limit) * (BINS / (2 * limit))).astype(np.int64).clip(0, BINS - 1)
        return Histogram(
            limit, np.bincount(index, weights=self.counts, minlength=BINS).astype(np.int64), self.zeros
        )

    def copy(self) -> Histogram:
        """An independent copy."""
        return Histogram(self.limit, self.counts.copy(), self.zeros)

    def centres(self) -> np.ndarray:
        """Centre of every bin, float64 ``[BINS]``."""
        width = 2 * self.limit / BINS
        return -self.limit + width * (np.arange(BINS) + 0.5)


@dataclass
class TensorStats:
    """Statistics of one tensor over the calibration data.

    Attributes:
        low, high: smallest and largest value seen.
        average_low, average_high: exponential moving averages of each batch's extremes.
        histogram: value counts, if an observer needed them.
        batches: number of batches seen.
    """

    low: float = float("inf")
    high: float = float("-inf")
    average_low: float = 0.0
    average_high: float = 0.0
    histogram: Histogram | None = None
    batches: int = 0

    def update(self, x: Tensor, *, histogram: bool = False) -> None:
        """Take in one batch, a float tensor of any shape."""
        if x.numel() == 0:
            return
        low, high = (float(v) for v in torch.aminmax(x.detach()))
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
        """Statistics of both tensors together, for a shared scale."""
        both = self.histogram and other.histogram and self.histogram.merged(other.histogram)
        return TensorStats(
            min(self.low, other.low),
            max(self.high, other.high),
            min(self.average_low, other.average_low),
            max(self.average_high, other.average_high),
            both or self.histogram or other.histogram,
            self.batches + other.batches,
        )


@dataclass
class Statistics:
    """Statistics of a program's tensors, by node name.

    Attributes:
        tensors: node name to statistics.
        images: number of samples seen.
        source: where the data came from, in words: the report shows it.
    """

    tensors: dict[str, TensorStats] = field(default_factory=dict)
    images: int = 0
    source: str = "calibration data"
