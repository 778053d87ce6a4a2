"""Which units stay: by a ratio within each group, by one ranking over all, or as many as a budget allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import floor, gcd
from typing import TypeAlias

import numpy as np

from fxc.compiler.errors import UsageError
from fxc.passes.prune.atoms import Floats, Ints
from fxc.passes.prune.cost import Costs, Device
from fxc.passes.prune.groups import Group, Structure

Kept: TypeAlias = "dict[str, Ints]"
"""By group the numbers of the units that stay, ascending."""

BUDGETS = ("macs", "params", "latency")
"""What may be limited: multiply-accumulates, parameters, and the time that a model of a device estimates."""

_LARGEST = 1.0 - 2.0**-20
_HALVINGS = 24


@dataclass(frozen=True)
class Whole:
    """What ratios and budgets are shares of, where the program has been pruned before.

    Attributes:
        units: by what a group's :attr:`Group.tensors` are, how many there were at first.
        costs: what each of :data:`BUDGETS` was at first.
    """

    units: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        ratio: share of the channels that goes, in [0, 1).
        budget: some of :data:`BUDGETS` to the share of the original that may be left, in (0, 1]; the ratio is found.
        ranking: ``"local"`` within each group, ``"global"`` over all of them.
        align: widths are rounded to a multiple of this where a group is that wide.
        layers: pattern over layer names to a ratio of its own; later patterns win.
        protect: patterns of layers that keep every channel.
        whole: what all shares are of; by default the program that is pruned.
        device: that ``"latency"`` is estimated for.
    """

    ratio: float = 0.5
    budget: Mapping[str, float] = field(default_factory=dict)
    ranking: str = "local"
    align: int = 1
    layers: Mapping[str, float] = field(default_factory=dict)
    protect: tuple[str, ...] = ()
    whole: Whole = field(default_factory=Whole)
    device: Device | None = None

    def __post_init__(self) -> None:
        for what, ratio in (("ratio", self.ratio), *((f"layers[{k!r}]", v) for k, v in self.layers.items())):
            if not _number(ratio) or not 0.0 <= ratio < 1.0:
                raise UsageError(
                    f"{what} must lie in [0, 1), got {ratio!r}", why="it is the share of channels that goes"
                )
        for what, share in self.budget.items():
            if what not in BUDGETS:
                raise UsageError(f"unknown budget {what!r}", fix=" or ".join(BUDGETS))
            if not _number(share) or not 0.0 < share <= 1.0:
                raise UsageError(
                    f"{what} must lie in (0, 1], got {share!r}", why="it is the share that may be left"
                )
        if "latency" in self.budget and self.device is None:
            raise UsageError("latency needs a target whose speed is known", fix='target="rk3588-int8"')
        if self.ranking not in ("local", "global"):
            raise UsageError(f"unknown ranking {self.ranking!r}", fix="local or global")
        if not isinstance(self.align, int) or isinstance(self.align, bool) or self.align < 1:
            raise UsageError(f"align must be a positive integer, got {self.align!r}", fix="align=8")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def select(structure: Structure, scores: Mapping[str, Floats], wanted: Wanted) -> Kept:
    """The units that stay; every group keeps at least one.

    Args:
        structure: of the program.
        scores: by group, higher stays.
        wanted: what is asked for.

    Raises:
        UsageError: nothing can be pruned, a pattern matches no layer, or a budget cannot be reached.
    """
    groups = _open_groups(structure, wanted)
    if not wanted.budget:
        return _at(groups, scores, wanted, wanted.ratio)
    costs = Costs(structure, wanted.device)
    return _within(structure, wanted, costs, lambda ratio: _at(groups, scores, wanted, ratio))


def _open_groups(structure: Structure, wanted: Wanted) -> dict[str, tuple[Group, float | None]]:
    """The groups that may shrink, with a ratio of their own if the user gave one."""
    known = {layer for group in structure.groups for layer in group.layers}
    for pattern in (*wanted.layers, *wanted.protect):
        if not any(fnmatchcase(layer, pattern) for layer in known):
            raise UsageError(
                f"no layer that makes channels matches {pattern!r}", fix="fxc prune MODEL lists them"
            )
    found: dict[str, tuple[Group, float | None]] = {}
    for group in structure.prunable:
        own = [r for pattern, r in wanted.layers.items() if _any(group.layers, pattern)]
        if not any(_any(group.layers, pattern) for pattern in wanted.protect):
            found[group.name] = (group, own[-1] if own else None)
    if structure.prunable and not found:
        raise UsageError("every layer that could be pruned is protected", fix="protect fewer layers")
    return found


def _any(layers: tuple[str, ...], pattern: str) -> bool:
    return any(fnmatchcase(layer, pattern) for layer in layers)


def _at(
    groups: Mapping[str, tuple[Group, float | None]],
    scores: Mapping[str, Floats],
    wanted: Wanted,
    ratio: float,
) -> Kept:
    left = _left_of_all(groups, scores, wanted.whole, ratio) if wanted.ranking == "global" else {}
    kept: Kept = {}
    for name, (group, own) in groups.items():
        if name in left:
            count = left[name]
        else:
            units = wanted.whole.units.get(group.tensors, len(group))
            count = min(len(group), units - floor(units * (ratio if own is None else own) + 1e-9))
        best = np.argsort(-scores[name], kind="stable")[: rounded(count, group, wanted.align)]
        kept[name] = np.sort(best)
    return kept


def _left_of_all(
    groups: Mapping[str, tuple[Group, float | None]],
    scores: Mapping[str, Floats],
    whole: Whole,
    ratio: float,
) -> dict[str, int]:
    """How many units of each group stay when ``ratio`` of all channels goes; what went before counts as gone.

    Equal scores go evenly from their groups: from each the same share.
    """
    free = {name: group for name, (group, own) in groups.items() if own is None}
    if not free:
        return {}
    values = np.concatenate([scores[name] for name in free])
    places = np.concatenate([_ranks(scores[name]) for name in free])
    widths = np.concatenate([np.full(len(group), group.width) for group in free.values()])
    numbers = np.repeat(np.arange(len(free)), [len(group) for group in free.values()])
    order = np.lexsort((places, values))
    total = sum(whole.units.get(group.tensors, len(group)) * group.width for group in free.values())
    stays = np.cumsum(widths[order]) > ratio * total - (total - widths.sum()) + 1e-9
    counts = np.bincount(numbers[order][stays], minlength=len(free))
    return dict(zip(free, map(int, counts)))


def _ranks(scores: Floats) -> Floats:
    """Where each score stands among them, in [0, 1)."""
    found = np.empty(len(scores))
    found[np.argsort(scores, kind="stable")] = np.arange(len(scores)) / len(scores)
    return found


def rounded(count: int, group: Group, align: int) -> int:
    """How many units stay, so that the layer's width is the nearest multiple of ``align``; at least 1, at most all.

    A group that is not wider than ``align`` is rounded to a half, a quarter, … of it.
    """
    if count == len(group):
        return count
    step = align // gcd(align, group.width)
    while step >= len(group) and step % 2 == 0:
        step //= 2
    if step >= len(group):
        return max(1, count)
    return min(max(step, (count + step // 2) // step * step), len(group))


def _within(structure: Structure, wanted: Wanted, costs: Costs, at: Callable[[float], Kept]) -> Kept:
    """The most that stays within the budget."""
    measure = {what: getattr(costs, what) for what in wanted.budget}
    whole = {**{what: cost() for what, cost in measure.items()}, **wanted.whole.costs}

    def share(what: str, kept: Kept) -> float:
        return float(measure[what](structure.keep(removed(structure, kept))) / (whole[what] or 1))

    def fits(kept: Kept) -> bool:
        return all(share(what, kept) <= most for what, most in wanted.budget.items())

    least = at(_LARGEST)
    for what, most in wanted.budget.items():
        if (reached := share(what, least)) > most:
            raise UsageError(
                f"{what}={most:.4g} cannot be reached: the least is {reached:.3f}{_in_ms(what, reached * whole[what])}",
                why="every layer keeps at least one channel, or align of them; protected layers keep all",
                fix=f"{what}={min(1.0, reached + 0.001):.3f}, or protect less",
            )
    low, high = 0.0, _LARGEST
    if fits(at(low)):
        return at(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(at(middle)) else (middle, high)
    return at(high)


def _in_ms(what: str, seconds: float) -> str:
    return f" of the original, {1e3 * seconds:.3g} ms by the model" if what == "latency" else ""


def removed(structure: Structure, kept: Mapping[str, Ints]) -> list[Ints]:
    """The classes that go, for :meth:`Structure.keep`."""
    gone = []
    for group in structure.prunable:
        if group.name in kept:
            stays = np.zeros(len(group), dtype=bool)
            stays[kept[group.name]] = True
            gone.append(group.units[~stays])
    return gone
