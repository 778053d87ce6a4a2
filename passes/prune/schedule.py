"""Pruning in steps, so that the user's fine-tuning comes between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fxc.compiler.errors import UsageError
from fxc.passes.prune.prune_channels import PruneChannels

CURVES = ("linear", "cubic")


def in_steps(step: PruneChannels, count: int, curve: str = "linear") -> Iterator[PruneChannels]:
    """``step`` as several, each for the program that the one before it leaves; their shares are of the first program.

    Args:
        step: the whole way; a latency is a share.
        count: number of steps, at least 1.
        curve: ``linear``, or ``cubic``: much at first, little at the end (Zhu and Gupta, "To prune, or not to prune", 2017).

    Raises:
        UsageError: no steps, or an unknown curve.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"steps must be a positive integer, got {count!r}")
    if curve not in CURVES:
        raise UsageError(f"unknown curve {curve!r}", fix=" or ".join(CURVES))
    for number in range(1, count + 1):
        part = number / count
        yield _as_far_as(step, part if curve == "linear" else 1.0 - (1.0 - part) ** 3)


def _as_far_as(step: PruneChannels, part: float) -> PruneChannels:
    """The share ``part`` of the way, counted from the start."""

    def budget(share: float | str | None) -> float | None:
        return None if share is None or isinstance(share, str) else 1.0 - (1.0 - share) * part

    layers = tuple((pattern, own * part) for pattern, own in step.layers)
    return replace(
        step, ratio=step.ratio * part, macs=budget(step.macs), params=budget(step.params),
        latency=budget(step.latency), layers=layers,
    )  # fmt: skip
