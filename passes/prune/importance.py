"""How much each channel matters: one score per unit, comparable between groups."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import UsageError
from fxc.passes.prune.atoms import Floats, Ints
from fxc.passes.prune.groups import Group, Slot, Structure

_FAR = 4096
"""Rows whose distances are computed at once."""


@dataclass(frozen=True)
class Importance:
    """Scores for the units of every group of a program.

    Attributes:
        structure: of the program.
        criterion: one of :data:`CRITERIA`.
        seed: of the random criterion.
        gradients: by parameter, summed over data: for the Taylor criterion.
    """

    structure: Structure
    criterion: str
    seed: int = 0
    gradients: Mapping[str, Tensor] = field(default_factory=dict)

    def scores(self) -> dict[str, Floats]:
        """By group, ``[units]``: the mean over its tensors, each scaled to a mean of 1 over the group.

        Raises:
            UsageError: an unknown criterion, Taylor without gradients, or weights that are not finite.
        """
        check_criterion(self.criterion)
        if self.criterion == "taylor" and not self.gradients:
            raise UsageError(
                "the Taylor criterion needs data and a loss", fix="fxc.prune(…, data=batches, loss=function)"
            )
        if self.criterion == "random":
            return {group.name: self._random(group) for group in self.structure.prunable}
        known: dict[int, Floats] = {}
        return {group.name: self._measured(group, known) for group in self.structure.prunable}

    def _random(self, group: Group) -> Floats:
        return np.random.default_rng([self.seed, zlib.crc32(group.name.encode())]).random(len(group))

    def _measured(self, group: Group, known: dict[int, Floats]) -> Floats:
        found = [self._by_unit(group, place, known) for place in self._slots(group)]
        if not all(np.isfinite(scores).all() for scores in found):
            raise UsageError(
                f"the channels of {group.name} cannot be ranked: its weights or gradients hold NaN or infinity",
                fix="check the model's parameters, or protect the layer",
            )
        return np.mean([_of_mean_one(scores) for scores in found], axis=0)

    def _slots(self, group: Group) -> list[int]:
        """The tensors that are looked at; where none has the right role (a weight that is computed), all of them."""
        roles = _ROLES.get(self.criterion, ("out", "in"))
        for wanted in (roles, ("out", "in")):
            found = [place for place in group.slots if self.structure.slots[place].plays(*wanted)]
            if found:
                return found
        return list(group.slots)

    def _by_unit(self, group: Group, place: int, known: dict[int, Floats]) -> Floats:
        """Scores of one tensor's indices, added up for each unit."""
        structure, slot = self.structure, self.structure.slots[place]
        if place not in known:
            known[place] = CRITERIA[self.criterion](
                self._tensor(slot), slot.axis, self.gradients.get(slot.target)
            )
        classes = structure.classes[slot.atoms]
        mine = np.flatnonzero(structure.group_index[classes] == structure.group_index[group.units[0]])
        units: Ints = structure.unit_index[classes[mine]]
        found: Floats = np.bincount(units, weights=known[place][mine], minlength=len(group)).astype(
            np.float64
        )
        return found

    def _tensor(self, slot: Slot) -> Tensor:
        return self.structure.program.tensor(slot.target).detach()


def check_criterion(name: object) -> None:
    """Whether there is such a criterion.

    Raises:
        UsageError: there is none.
    """
    if not isinstance(name, str) or name not in CRITERIA:
        raise UsageError(f"unknown criterion {name!r}", fix=f"known criteria: {', '.join(CRITERIA)}")


def _of_mean_one(scores: Floats) -> Floats:
    mean = scores.mean()
    return scores / mean if mean > 0 else np.ones_like(scores)


def _rows(tensor: Tensor, axis: int) -> Tensor:
    """One row per index of ``axis``, float64, on the CPU."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).double().cpu()


def _l1(tensor: Tensor, axis: int, gradient: Tensor | None) -> Floats:
    return _rows(tensor, axis).abs().sum(1).numpy()


def _l2(tensor: Tensor, axis: int, gradient: Tensor | None) -> Floats:
    return _rows(tensor, axis).square().sum(1).sqrt().numpy()


def _fpgm(tensor: Tensor, axis: int, gradient: Tensor | None) -> Floats:
    rows = _rows(tensor, axis)
    return torch.cat([torch.cdist(part, rows).sum(1) for part in rows.split(_FAR)]).numpy()


def _taylor(tensor: Tensor, axis: int, gradient: Tensor | None) -> Floats:
    if gradient is None:
        return np.zeros(tensor.shape[axis])
    return _rows(tensor * gradient, axis).sum(1).abs().numpy()


_ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"bn": ("scale",), "fpgm": ("out",), "taylor": ("out", "scale", "in")}
)

CRITERIA: Mapping[str, Callable[[Tensor, int, Tensor | None], Floats]] = MappingProxyType(
    {"l1": _l1, "l2": _l2, "bn": _l1, "fpgm": _fpgm, "taylor": _taylor, "random": _l1}
)
"""Sum of absolute weights · Euclidean norm · size of the norm's scale (Liu et al., "Network Slimming", 2017; L2 where no
norm follows) · distance to the other filters (He et al., "Filter Pruning via Geometric Median", 2019) · |weight ·
gradient| (Molchanov et al., "Importance Estimation", 2019) · random."""
