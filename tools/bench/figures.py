"""The arithmetic of a comparison: rounds, ratios, means. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

Names = tuple[str, ...]


def rotated(names: Sequence[str], turn: int) -> Names:
    """``names`` in the order of round ``turn``: each round starts one later, so that nobody is always first."""
    shift = turn % len(names) if names else 0
    return (*names[shift:], *names[:shift])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of ours / theirs *in the same round*: a slow second of the machine hits both.

    Raises:
        ValueError: the two have not the same number of rounds, or none.
    """
    return float(median(a / b for a, b in zip(ours, theirs, strict=True)))


def geomean(values: Sequence[float]) -> float | None:
    """Geometric mean, ``None`` for no values.

    Raises:
        ValueError: a value is not positive.
    """
    if not values:
        return None
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def sqnr_db(signal: float, noise: float) -> float:
    """10·log10(signal / noise) in dB of two energies; infinite without noise."""
    return math.inf if noise == 0.0 else 10.0 * math.log10(signal / noise)


def lead_interval(
    signal: Sequence[float], ours: Sequence[float], theirs: Sequence[float], draws: int = 2000
) -> tuple[float, float]:
    """95 % bootstrap interval, in dB, of our lead over a peer on the same images.

    Args:
        signal, ours, theirs: energies per image: of the reference, and of the two errors. Which images are drawn matters
            to both alike, so that the lead is known better than either SQNR.
    """
    import numpy as np

    a, b = np.asarray(ours), np.asarray(theirs)
    picks = np.random.default_rng(0).integers(0, len(signal), (draws, len(signal)))
    leads = 10.0 * np.log10(b[picks].sum(1) / a[picks].sum(1))
    low, high = np.percentile(leads, (2.5, 97.5))
    return float(low), float(high)
