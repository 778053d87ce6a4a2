"""Groups: the channels of a program that can go, with all that goes with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch import fx

from fxc.compiler.macs import LINEAR, WEIGHTED
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.prune.atoms import Flags, Ints, Label, Mark
from fxc.passes.prune.flow import Choice, Flow, Rules
from fxc.passes.prune.roles import Use, uses
from fxc.passes.prune.rules import RULES

_ROUNDS = 6


@dataclass(frozen=True)
class Slot:
    """One axis of one tensor that may shrink.

    Attributes:
        node: a ``get_attr`` node that reads the tensor; ``target`` its path.
        axis: of the tensor.
        atoms: of its indices, ``[size]``.
        uses: the operators that read the tensor, under any name.
    """

    node: fx.Node
    axis: int
    atoms: Ints
    uses: tuple[Use, ...]

    @property
    def target(self) -> str:
        """The tensor's path."""
        return str(self.node.target)

    def plays(self, *roles: str) -> bool:
        """Whether the axis has one of these roles for any operator."""
        return any(use.role in roles for use in self.uses)


@dataclass(frozen=True)
class Group:
    """Channels with the same members: what they are made by, what reads them, what must shrink with them.

    Attributes:
        name: the label of the layer that makes them; with a number if it makes several groups.
        units: for each unit the class of its atoms. A unit is what goes at once: one channel, or several that are tied.
        layers: labels of the layers that make the channels, in graph order.
        slots: positions in :attr:`Structure.slots` of the axes that shrink.
        tensors: these axes in words, ``"conv.weight[0]"``, with the indices of a unit if there are several. No two groups
            that can shrink have the same, and they stay what they are when some units go: names may not.
        width: channels of its first layer per unit.
        fixed: why it cannot shrink; empty if it can.
        changes_statistics: norms and means that are taken over the channels, by label.
    """

    name: str
    layers: tuple[str, ...]
    units: Ints
    slots: tuple[int, ...]
    tensors: tuple[str, ...]
    width: int
    fixed: tuple[str, ...] = ()
    changes_statistics: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Structure:
    """What of a program can shrink, and with what.

    Attributes:
        program: it.
        flow: the labels of all its values.
        classes: for each atom the smallest one that is removed with it.
        slots: every axis of every tensor that has atoms.
        groups: in graph order, those that cannot shrink too.
        rules: by which it was found, and by which it is cut.
    """

    program: Program
    flow: Flow
    classes: Ints
    slots: tuple[Slot, ...]
    groups: tuple[Group, ...]
    rules: Rules = field(default_factory=lambda: RULES)

    @cached_property
    def graph_hash(self) -> str:
        """What a plan knows the program by: its operators, connections and shapes."""
        return structural_hash(self.program, contents=False)

    @cached_property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that can shrink."""
        return tuple(group for group in self.groups if not group.fixed)

    @cached_property
    def unit_index(self) -> Ints:
        """For each class its number within its group, -1 for one without a group, ``[atoms]``."""
        found = np.full(len(self.classes), -1, dtype=np.int64)
        for group in self.groups:
            found[group.units] = np.arange(len(group.units))
        return found

    @cached_property
    def group_index(self) -> Ints:
        """For each class the number of its group, -1 for one without, ``[atoms]``."""
        found = np.full(len(self.classes), -1, dtype=np.int64)
        for number, group in enumerate(self.groups):
            found[group.units] = number
        return found

    def keep(self, removed: Iterable[Ints]) -> Flags:
        """Whether each atom stays when the classes in ``removed`` go, ``bool [atoms]``."""
        stays = np.ones(len(self.classes), dtype=bool)
        for classes in removed:
            stays[classes] = False
        return stays[self.classes]

    def kept_indices(self, keep: Flags) -> dict[str, dict[int, Ints]]:
        """What is left of every tensor that shrinks: by path and axis, the indices that stay."""
        found: dict[str, dict[int, Ints]] = {}
        for slot in self.slots:
            if not (stays := keep[slot.atoms]).all():
                found.setdefault(slot.target, {})[slot.axis] = np.flatnonzero(stays)
        return found


def structure_of(program: Program, *, heads: bool = False, rules: Rules = RULES) -> Structure:
    """Find the groups of a canonical program.

    Args:
        program: left as it is.
        heads: let attention lose whole heads, not parts of each head.
        rules: by operator.

    Raises:
        PassError: a rule is wrong about an operator.
    """
    flow, classes = _settled(program, heads, rules)
    slots = _slots(flow)
    return Structure(program, flow, classes, slots, _groups(flow, classes, slots), rules)


def _settled(program: Program, heads: bool, rules: Rules) -> tuple[Flow, Ints]:
    """The labels, once no choice of a factor leads into what cannot shrink while another is left to try."""
    picks: dict[tuple[fx.Node, int], int] = {}
    for _ in range(_ROUNDS):
        flow = Flow(program, picks, heads=heads).run(rules)
        classes = flow.atoms.classes()
        stuck = _stuck(flow, classes)
        if not stuck:
            break
        picks.update({choice.key: choice.picked + 1 for choice in stuck})
    return flow, classes


def _stuck(flow: Flow, classes: Ints) -> list[Choice]:
    pinned = _members(flow.atoms.pins, classes)
    return [
        choice
        for choice in flow.choices
        if choice.picked + 1 < choice.options and pinned[classes[choice.atoms]].all()
    ]


def _members(marks: Sequence[Mark], classes: Ints) -> Flags:
    """Whether each class has a marked atom."""
    found = np.zeros(len(classes), dtype=bool)
    for mark in marks:
        found[classes[mark.atoms]] = True
    return found


def _slots(flow: Flow) -> tuple[Slot, ...]:
    """The labelled axes, each tensor once."""
    nodes: dict[int, list[fx.Node]] = {}
    for node in flow.program.graph.nodes:
        if node.op == "get_attr":
            nodes.setdefault(id(flow.program.tensor(str(node.target))), []).append(node)
    return tuple(
        Slot(same[0], axis, atoms, tuple(use for node in same for use in uses(node, axis)))
        for same in nodes.values()
        for axis, atoms in enumerate(flow.of(same[0]))
        if atoms is not None
    )


def _groups(flow: Flow, classes: Ints, slots: Sequence[Slot]) -> tuple[Group, ...]:
    """Classes with the same members make a group."""
    if not slots:
        return ()
    members = np.concatenate([classes[slot.atoms] for slot in slots])
    places = np.repeat(np.arange(len(slots)), [len(slot.atoms) for slot in slots])
    pinned = _members(flow.atoms.pins, classes)
    group_of = _equal_signatures(members, places, pinned)
    reasons = _texts(flow.atoms.pins, classes, group_of)
    statistics = _texts(flow.atoms.statistics, classes, group_of)
    makers = _makers(flow, classes, group_of)
    made = []
    for number, part in enumerate(_parts(group_of[members])):
        if number not in makers:
            continue
        units, (width, layers) = _in_order(members[part]), makers[number]
        fixed = reasons.get(number, ()) if pinned[units[0]] else _too_few(units)
        own, counts = np.unique(places[part], return_counts=True)
        tensors = _in_words(slots, own, counts // len(units))
        places_of, marks = tuple(map(int, own)), statistics.get(number, ())
        made.append(Group(layers[0], layers, units, places_of, tensors, width // len(units), fixed, marks))
    return _named(made)


def _in_words(slots: Sequence[Slot], places: Ints, counts: Ints) -> tuple[str, ...]:
    said = (f"{slots[place].target}[{slots[place].axis}]" for place in places)
    return tuple(text if count == 1 else f"{text} x{count}" for text, count in zip(said, counts))


def _makers(flow: Flow, classes: Ints, group_of: Ints) -> dict[int, tuple[int, tuple[str, ...]]]:
    """By group how many of its channels the first layer makes, and the labels of all layers that make them."""
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    for node in flow.program.graph.nodes:
        label = _made_by(flow, node)
        if label is None:
            continue
        numbers, counts = np.unique(group_of[classes[label]], return_counts=True)
        for number, count in zip(map(int, numbers), map(int, counts)):
            width, layers = found.get(number, (count, ()))
            found[number] = (width, (*layers, label_of(node)))
    return found


def _made_by(flow: Flow, node: fx.Node) -> Label:
    """The label of the channels that a layer with weights makes."""
    if node.target not in WEIGHTED:
        return None
    weight = node.args[1]
    return flow.of(node)[-1 if node.target in LINEAR else 1 - len(flow.of(weight))]


def _equal_signatures(members: Ints, places: Ints, pinned: Flags) -> Ints:
    """For each class the number of its group, in order of appearance; -1 for one that no tensor has.

    A class is summed up by a random number for each of its members, counted as often as it is there.
    """
    random = np.random.default_rng(0).integers(1, 2**63, int(places[-1]) + 2, dtype=np.uint64)
    signature = np.zeros(len(pinned), dtype=np.uint64)
    np.add.at(signature, members, random[places])
    signature[pinned] += random[-1]
    _, first, found = np.unique(signature[members], return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    group_of = np.full(len(pinned), -1, dtype=np.int64)
    group_of[members] = number[found]
    return group_of


def _parts(numbers: Ints) -> list[Ints]:
    """For each number 0, 1, … the places where it stands."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers))[:-1])


def _in_order(values: Ints) -> Ints:
    """Each value once, in order of appearance."""
    return values[np.sort(np.unique(values, return_index=True)[1])]


def _too_few(units: Ints) -> tuple[str, ...]:
    return ("is one unit, and a layer keeps at least one",) if len(units) == 1 else ()


def _texts(marks: Sequence[Mark], classes: Ints, group_of: Ints) -> dict[int, tuple[str, ...]]:
    """What marks say about each group, each sentence once."""
    said: dict[int, dict[str, None]] = {}
    for mark in marks:
        for number in np.unique(group_of[classes[mark.atoms]]):
            said.setdefault(int(number), {})[f"{label_of(mark.node)} {mark.text}"] = None
    return {number: tuple(texts) for number, texts in said.items()}


def _named(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups with names of their own."""
    taken: dict[str, int] = {}
    found = []
    for group in groups:
        count = taken[group.name] = taken.get(group.name, 0) + 1
        found.append(group if count == 1 else replace(group, name=f"{group.name}#{count}"))
    return tuple(found)
