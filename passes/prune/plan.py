"""A plan: which channels go, written down. It can be read, kept in a file, replayed, and joined with a later one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.files import read_json, reading, write_text
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.prune.atoms import Flags, Floats, Ints
from fxc.passes.prune.groups import Structure
from fxc.passes.prune.select import removed

KIND, FORMAT = "fxc pruning plan", 2


@dataclass(frozen=True)
class PlannedGroup:
    """What happens to one group.

    Attributes:
        name: of the group.
        layers: labels of the layers that make its channels.
        tensors: axes that shrink, ``"conv.weight[0]"``; by them a later plan's group is known.
        units: how many there are, and ``width``, the channels of its layer in each.
        kept: the numbers of the units that stay, ascending.
        scores: of every unit.
        changes_statistics: norms and the like whose statistic is taken over fewer channels afterwards, by label.
    """

    name: str
    layers: tuple[str, ...]
    tensors: tuple[str, ...]
    units: int
    width: int
    kept: tuple[int, ...]
    scores: tuple[float, ...]
    changes_statistics: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, int]:
        """Channels before and after."""
        return self.units * self.width, len(self.kept) * self.width


@dataclass(frozen=True)
class Plan:
    """Which channels of a program go.

    Attributes:
        model: the program's name.
        graph: hash of the program's graph, without the values of its weights: a plan also fits the fine-tuned model.
        heads: whether attention loses whole heads.
        groups: every group that may shrink.
        fixed: the others: name to the reasons.
    """

    model: str
    graph: str
    heads: bool
    groups: tuple[PlannedGroup, ...]
    fixed: Mapping[str, tuple[str, ...]]

    def keep(self, structure: Structure) -> Flags:
        """Whether each atom of the program stays.

        Raises:
            UsageError: the plan is another program's.
        """
        self._check(structure.program, structure.graph_hash)
        known = {group.name: len(group) for group in structure.prunable}
        if any(known.get(group.name) != group.units for group in self.groups):
            raise UsageError("the plan's groups are not the program's", fix="plan it again with this fxc")
        kept = {group.name: np.array(group.kept, dtype=np.int64) for group in self.groups}
        return structure.keep(removed(structure, kept))

    def check(self, program: Program) -> None:
        """Whether this is the plan of ``program``.

        Raises:
            UsageError: it is another program's.
        """
        self._check(program, graph_hash(program))

    def _check(self, program: Program, found: str) -> None:
        if self.graph != found:
            raise UsageError(
                f"this plan belongs to another program than {program.name}",
                why=f"it was made for {self.model}, whose graph or whose shapes differ",
                fix="plan this model again, or replay the plan on the model that it was made for",
            )

    def then(self, later: Plan) -> Plan:
        """Both plans as one, where ``later`` is of the program that this one leaves.

        Raises:
            UsageError: the groups of ``later`` are not what this plan leaves.
        """
        after = {group.tensors: group for group in later.groups}
        joined = tuple(_joined(group, after.pop(group.tensors, None)) for group in self.groups)
        if new := [group for group in after.values() if len(group.kept) < group.units]:
            raise UsageError(
                f"the later plan shrinks {new[0].name}, which the first one does not know",
                why="some dimensions can shrink only once others have",
                fix="apply the plans one after the other",
            )
        return replace(self, groups=joined)

    def digest(self) -> str:
        """A hash of what goes; scores do not count."""
        kept = [(group.name, group.kept) for group in self.groups if len(group.kept) < group.units]
        return hashlib.sha256(repr((self.graph, self.heads, kept)).encode()).hexdigest()[:16]

    def save(self, path: Path | str) -> Path:
        """Write the plan as JSON."""
        text = json.dumps({"kind": KIND, "format": FORMAT, **asdict(self)}, indent=1)
        write_text(Path(path), text + "\n")
        return Path(path)

    @staticmethod
    def load(path: Path | str) -> Plan:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: missing, cut short, or no plan.
        """
        with reading(Path(path)):
            return _decoded(read_json(Path(path)))


def graph_hash(program: Program) -> str:
    """What a plan knows a program by: its operators, connections and shapes."""
    return structural_hash(program, contents=False)


def plan_of(structure: Structure, scores: Mapping[str, Floats], kept: Mapping[str, Ints]) -> Plan:
    """The plan in which the groups keep ``kept``; a group that is not in it keeps everything."""
    heads = structure.flow.heads
    planned = tuple(
        PlannedGroup(
            name=group.name,
            layers=group.layers,
            tensors=group.tensors,
            units=len(group),
            width=group.width,
            kept=tuple(map(int, kept.get(group.name, np.arange(len(group))))),
            scores=tuple(round(float(score), 6) for score in scores[group.name]),
            changes_statistics=group.changes_statistics,
        )
        for group in structure.prunable
    )
    fixed = {group.name: group.fixed for group in structure.groups if group.fixed}
    return Plan(structure.program.name, structure.graph_hash, heads, planned, fixed)


def _joined(first: PlannedGroup, later: PlannedGroup | None) -> PlannedGroup:
    if later is None:
        # What is left of it is a single unit, which no later plan can prune.
        if len(first.kept) > 1:
            raise UsageError(f"the later plan does not know the group {first.name}")
        return first
    if later.units != len(first.kept):
        raise UsageError(
            f"the later plan is for {later.units} units of {first.name}, {len(first.kept)} are left"
        )
    return replace(first, kept=tuple(first.kept[i] for i in later.kept))


def _decoded(document: Any) -> Plan:
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ArtifactError("this is not a pruning plan", fix="give the file that Plan.save wrote")
    if document.get("format") != FORMAT:
        raise ArtifactError(
            f"the plan has format {str(document.get('format'))[:20]}, this fxc reads {FORMAT}"
        )
    return Plan(
        model=str(document["model"]),
        graph=str(document["graph"]),
        heads=bool(document["heads"]),
        groups=tuple(_decoded_group(group) for group in document["groups"]),
        fixed={str(name): tuple(map(str, reasons)) for name, reasons in document["fixed"].items()},
    )


def _decoded_group(value: Mapping[str, Any]) -> PlannedGroup:
    units, kept = int(value["units"]), tuple(map(int, value["kept"]))
    if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < units:
        raise ArtifactError(f"the plan's group {str(value['name'])[:60]} keeps units that it does not have")
    return PlannedGroup(
        name=str(value["name"]),
        layers=tuple(map(str, value["layers"])),
        tensors=tuple(map(str, value["tensors"])),
        units=units,
        width=int(value["width"]),
        kept=kept,
        scores=tuple(map(float, value["scores"])),
        changes_statistics=tuple(map(str, value["changes_statistics"])),
    )
