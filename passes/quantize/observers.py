"""Observers: from a tensor's statistics to the range that its codes should cover.

Every observer gets the spec that the tensor will really have, since the best range depends on it: searched with
another spec (symmetric for a tensor coded affinely) the answer is silently wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fxc.compiler.quant import QuantSpec
from fxc.passes.quantize.statistics import Histogram, TensorStats

_GRID = np.concatenate([np.linspace(0.05, 0.45, 9), np.linspace(0.5, 1.0, 51)])
"""Fractions of the observed range that the searches try."""

HISTOGRAM_OBSERVERS = ("percentile", "mse", "entropy", "auto")


def observe(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    """The range ``(low, high)`` that ``spec.observer`` finds; it always contains 0.

    Args:
        stats: of the tensor, or of all tensors that share the scale.
        spec: the coding that the tensor will get.
    """
    low, high = _OBSERVERS[spec.observer](stats, spec)
    return min(low, 0.0), max(high, 0.0)


def _minmax(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    return stats.low, stats.high


def _moving_average(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    return stats.average_low, stats.average_high


def _percentile(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    """Cut both tails at ``spec.percentile``; a one-sided tensor loses only the tail it has."""
    histogram = stats.histogram
    if histogram is None:
        return stats.low, stats.high
    counts = histogram.counts.copy()
    counts[counts.size // 2] += histogram.zeros
    below = np.cumsum(counts) / counts.sum()
    tail = 1.0 - spec.percentile / 100.0
    edges = np.linspace(-histogram.limit, histogram.limit, counts.size + 1)
    low = edges[int(np.searchsorted(below, tail, side="right"))]
    high = edges[int(np.searchsorted(below, 1.0 - tail, side="left")) + 1]
    return max(float(low), stats.low), min(float(high), stats.high)


def _mse(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    """The range with the least mean squared error, rounding and clipping together (Banner et al. 2019)."""
    histogram = stats.histogram
    if histogram is None:
        return stats.low, stats.high
    x, weight = _occupied(histogram)
    # Rounding errors inside a histogram bin average out; a bin's width is far below a step for 8 bits.
    return _search(
        stats, spec, lambda low, high: float((weight * _coding_error(x, low, high, spec) ** 2).sum())
    )


def _entropy(stats: TensorStats, spec: QuantSpec) -> tuple[float, float]:
    """The range whose coded distribution has the least Kullback-Leibler divergence from the observed one.

    As in NVIDIA's TensorRT calibration (Migacz, "8-bit inference with TensorRT", 2017): exact zeros are left out, the
    clipped tail is added to the outermost bin of the reference, and the candidate spreads each code's mass over the
    bins that it covers and that are not empty.
    """
    histogram = stats.histogram
    if histogram is None:
        return stats.low, stats.high
    x, weight = _occupied(histogram)
    return _search(stats, spec, lambda low, high: _divergence(x, weight, low, high, spec))


_OBSERVERS: dict[str, Callable[[TensorStats, QuantSpec], tuple[float, float]]] = {
    "minmax": _minmax,
    "moving_average": _moving_average,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
    # Where nothing was measured: MSE is the best of the fixed ones.
    "auto": _mse,
}


def _occupied(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    keep = histogram.counts > 0
    return histogram.centres()[keep], histogram.counts[keep].astype(np.float64)


def _search(
    stats: TensorStats, spec: QuantSpec, cost: Callable[[float, float], float]
) -> tuple[float, float]:
    """The cheapest range: the larger side first, then (affine specs with two sides) the smaller one alone."""
    low, high = min(stats.low, 0.0), max(stats.high, 0.0)
    if low == high:
        return low, high
    best = min(_GRID[::-1], key=lambda f: cost(low * f, high * f))
    low, high = low * best, high * best
    if not spec.symmetric and low < 0.0 < high:
        low = low * min(_GRID[::-1], key=lambda f: cost(low * f, high))
        high = high * min(_GRID[::-1], key=lambda f: cost(low, high * f))
    return float(low), float(high)


def _coding(low: float, high: float, spec: QuantSpec) -> tuple[float, float, float]:
    """Step, smallest and largest representable value of the coding that covers ``[low, high]``."""
    if spec.symmetric:
        limit = max(-low, high)
        zero = spec.zero_for(low)
        above, below = spec.qmax - zero, zero - spec.qmin
        step = limit / (min(above, below) if below else above)
        return step, (spec.qmin - zero) * step, (spec.qmax - zero) * step
    step = (high - low) / (spec.qmax - spec.qmin)
    zero = round(spec.qmin - low / step)
    return step, (spec.qmin - zero) * step, (spec.qmax - zero) * step


def _coding_error(x: np.ndarray, low: float, high: float, spec: QuantSpec) -> np.ndarray:
    step, smallest, largest = _coding(low, high, spec)
    return np.clip(np.rint(x / step) * step, smallest, largest) - x


def _divergence(x: np.ndarray, weight: np.ndarray, low: float, high: float, spec: QuantSpec) -> float:
    step, smallest, largest = _coding(low, high, spec)
    inside = (x >= smallest - step / 2) & (x <= largest + step / 2)
    if not inside.any():
        return float("inf")
    reference = weight[inside].copy()
    reference[0] += weight[x < smallest - step / 2].sum()
    reference[-1] += weight[x > largest + step / 2].sum()
    code = np.rint(x[inside] / step).astype(np.int64)
    code -= code.min()
    mass, bins = np.bincount(code, weights=weight[inside]), np.bincount(code)
    candidate = mass[code] / bins[code]
    p, q = reference / reference.sum(), candidate / weight.sum()
    return float((p * np.log(p / np.maximum(q, 1e-12))).sum())
