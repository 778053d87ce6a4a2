"""Which factors to give to channel lanes: the noise that eight bits leave, predicted from channel ranges and weights.

A tensor coded with one scale has noise ``step^2 / 12`` in every channel, so a channel reaches the layer that reads it with
``step^2 / 12 * sum(w^2) / s^2`` once the channel was multiplied by ``s`` and the layer's columns divided by it. The layer's
own weights, coded per output channel, add ``sum_o (step_o^2 / 12) * sum_c E[x^2] s^2``. Even ranges help the first term and
may hurt the second (the trade of Xiao et al. 2023, arXiv:2211.10438, equation 4), so factors are chosen by their sum,
relative to what the layer computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

_STEPS = 255.0
_WEIGHT_STEPS = 127.0
_LIMIT = 2.0**14
"""Largest factor and inverse: beyond, a channel is as good as empty."""
_EMPTY = 1e-6
"""A channel whose range is this small beside the largest keeps its factor."""


@dataclass(frozen=True)
class Coded:
    """One tensor that is coded with one scale, by channel.

    Attributes:
        name: of its node.
        lanes: ``[C]`` lane of each channel.
        low, high: ``[C]`` extremes; square: ``[C]`` mean of squares.
    """

    name: str
    lanes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    square: np.ndarray

    @property
    def size(self) -> np.ndarray:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True)
class Reader:
    """A layer that reads a coded tensor.

    Attributes:
        lanes: ``[C]`` lane of each input channel.
        largest: ``[out, C]`` largest magnitude of the weights that join the two; zero where nothing joins them.
        power: ``[C]`` sum of squares of all weights that read the channel.
        square: ``[C]`` mean square of the channel.
        taps: weights per pair of channels.
        mixes: whether a row reads several channels; a depthwise layer's codes do not depend on factors.
    """

    lanes: np.ndarray
    largest: np.ndarray
    power: np.ndarray
    square: np.ndarray
    taps: int
    mixes: bool


@dataclass
class Group:
    """Tensors and layers that share lanes; their factors are chosen together."""

    tensors: list[Coded] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def lanes(self) -> np.ndarray:
        """Every free lane, sorted."""
        found = np.unique(np.concatenate([t.lanes for t in self.tensors]))
        return found[found > 0]


@dataclass(frozen=True)
class Choice:
    """Factors of a group's lanes, and what they are predicted to do.

    Attributes:
        lanes, factors: parallel, float64.
        gain_db: predicted fall of the noise that the group's layers see.
        ratio_before, ratio_after: of the largest to the median channel range in the group's worst tensor.
    """

    lanes: np.ndarray
    factors: np.ndarray
    gain_db: float
    ratio_before: float
    ratio_after: float


def choose(group: Group, least_gain_db: float = 0.0) -> Choice:
    """The best factors among several families: even ranges to some power, or outliers alone brought down.

    Families that cannot gain ``least_gain_db`` even with perfect weights are not looked at.
    """
    lanes = group.lanes()
    ranges = _by_lane(lanes, group.tensors)
    ones = np.ones(lanes.size)
    before = noise(group, lanes, ones)
    best, least = ones, before
    for factors in _candidates(ranges):
        if noise(group, lanes, factors, weights=False) > before * 10.0 ** (-least_gain_db / 10.0):
            continue
        found = noise(group, lanes, factors)
        if found < least:
            best, least = factors, found
    gain = 10.0 * float(np.log10(before / least)) if least > 0 else 0.0
    return Choice(lanes, best, gain, unevenness(group, lanes, ones), unevenness(group, lanes, best))


def _by_lane(lanes: np.ndarray, tensors: Sequence[Coded]) -> np.ndarray:
    """Largest range of each lane, each tensor's own relative to its largest."""
    ranges = np.zeros(lanes.size)
    top = max(float(t.size.max()) for t in tensors)
    for tensor in tensors:
        where = np.searchsorted(lanes, tensor.lanes).clip(0, lanes.size - 1)
        free = tensor.lanes > 0
        np.maximum.at(ranges, where[free], tensor.size[free])
    return ranges / top if top > 0 else ranges


def _candidates(ranges: np.ndarray) -> Iterator[np.ndarray]:
    alive = ranges > _EMPTY
    if not alive.any():
        return
    safe = np.where(alive, ranges, 1.0)
    for power in (0.25, 0.5, 0.75, 1.0):
        yield np.where(alive, safe**-power, 1.0).clip(1 / _LIMIT, _LIMIT)
    for share in (0.5, 0.75, 0.9, 0.97):
        limit = float(np.quantile(safe[alive], share))
        yield np.minimum(1.0, limit / safe)


def noise(group: Group, lanes: np.ndarray, factors: np.ndarray, *, weights: bool = True) -> float:
    """Predicted noise at the group's layers relative to what they compute, averaged over layers.

    Args:
        weights: whether to count the coding of the weights, which costs a look at all of them.
    """
    steps = [_step(t, _factors(t.lanes, lanes, factors)) for t in group.tensors]
    total = 0.0
    for reader in group.readers:
        s = _factors(reader.lanes, lanes, factors)
        signal = float((reader.power * reader.square).sum())
        if signal <= 0.0:
            continue
        coding = 0.0
        for tensor, step in zip(group.tensors, steps):
            if _meets(tensor, reader):
                # What is smaller than the step is lost, and no more than that; an empty channel's zeros are exact.
                error = np.minimum(step**2 / 12.0, reader.square * s**2)
                coding += float((reader.power / s**2 * error).sum())
        if weights and reader.mixes:
            # Most groups are looked at with factors of one only, and a quotient is a copy of the weights.
            scaled = reader.largest if (s == 1.0).all() else reader.largest / s
            row = scaled.max(axis=1).astype(np.float64) / _WEIGHT_STEPS
            coding += float((row**2).sum()) / 12.0 * reader.taps * float((reader.square * s**2).sum())
        total += coding / signal
    return total / max(len(group.readers), 1)


def _meets(tensor: Coded, reader: Reader) -> bool:
    return tensor.lanes.size == reader.lanes.size and bool((tensor.lanes == reader.lanes).all())


def _factors(wanted: np.ndarray, lanes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    where = np.searchsorted(lanes, wanted).clip(0, lanes.size - 1)
    return np.where(wanted > 0, factors[where], 1.0)


def _step(tensor: Coded, s: np.ndarray) -> float:
    low, high = min(float((tensor.low * s).min()), 0.0), max(float((tensor.high * s).max()), 0.0)
    return (high - low) / _STEPS


def unevenness(group: Group, lanes: np.ndarray, factors: np.ndarray) -> float:
    """Largest ratio of a tensor's largest channel range to its median one."""
    worst = 1.0
    for tensor in group.tensors:
        size = tensor.size * _factors(tensor.lanes, lanes, factors)
        alive = size[size > 0]
        if alive.size:
            worst = max(worst, float(alive.max() / np.median(alive)))
    return worst
