"""Counts of a tensor's values, in memory that does not grow with the data.

The range doubles when a value falls outside: pairs of bins merge exactly, so nothing already counted is lost or moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BINS = 4096


@dataclass
class Histogram:
    """Counts of values over ``[-limit, limit)`` in :data:`BINS` equal bins, and of exact zeros apart.

    Attributes:
        limit: half width of the range, in the tensor's units; a power of two, so that two histograms merge exactly.
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
