"""``equalize``: channels whose ranges differ get factors that make them even, without changing what the program computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor, detached
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Note, Program
from fxc.passes.quantize.balance import Choice, Coded, Group, Reader, choose
from fxc.passes.quantize.lane_sets import Lanes
from fxc.passes.quantize.lanes import LaneMap, Site, tensors_between
from fxc.passes.quantize.probe import Probed

aten = torch.ops.aten

_BLOCK = 1 << 22
"""Values that are widened to float64 at a time."""


@dataclass(frozen=True)
class Equalize(Pass):
    """Rescale channels through the layers on either side, where the predicted noise of eight bits falls by it.

    Before::

        %a = conv2d(%x, a.weight, a.bias, …)         # channel 3 reaches 40, the others 1
        %r = relu(%a)
        %b = conv2d(%r, b.weight, b.bias, …)

    After::

        %a = conv2d(%x, a.weight * s, a.bias * s, …) # every channel reaches about 1
        %r = relu(%a)
        %b = conv2d(%r, b.weight / s, b.bias, …)     # columns divided

    What may stand between, and what ties channels together, is :mod:`fxc.passes.quantize.lanes`; how factors are chosen is
    :mod:`fxc.passes.quantize.balance`.

    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1; Xiao et al. 2023, arXiv:2211.10438, for layer norms.

    Options:
        least_gain_db: groups whose predicted gain is smaller stay as they are: the prediction knows nothing of unseen data,
            and on nets whose channels are even anyway a gain of 3 dB was not found again.
        probed: what :func:`fxc.passes.quantize.probe.probe` saw of this very program; without it nothing is done.
    """

    name: ClassVar[str] = "equalize"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    least_gain_db: float = 8.0
    probed: Probed | None = field(default=None, compare=False)

    def apply(self, program: Program) -> PassResult:
        """One choice per group of tensors that share channels; O(nodes + weights)."""
        if self.probed is None:
            return PassResult(program, modified=False)
        if self.probed.program.graph_module is not program.graph_module:
            # Ranges of another program say nothing about this one's; a second run comes here.
            text = "nothing equalized: the channel ranges at hand are another program's"
            return PassResult(program, modified=False, notes=(Note("info", text, None, self.name),))
        editor = Editor(program, self.name)
        lanes = LaneMap(editor)
        coded = self._coded(lanes)
        chosen = [c for group in _groups(lanes, coded) if self._gains(c := choose(group, self.least_gain_db))]
        notes = _declined(editor, lanes)
        if not chosen:
            return PassResult(program, modified=False, notes=notes)
        factors = _table(chosen)
        for site in lanes.sites:
            _rescale(editor, lanes, site, factors)
        editor.note(_summary(chosen))
        return PassResult(editor.finish(), modified=True, notes=(*notes, *editor.notes))

    def _gains(self, choice: Choice) -> bool:
        return choice.gain_db > 0.0 and choice.gain_db >= self.least_gain_db

    def _coded(self, lanes: LaneMap) -> list[Coded]:
        """Measured channels with their lanes; a tensor whose lanes run along an axis that also holds samples has none."""
        found = []
        for node, numbers in tensors_between(lanes):
            seen = self.probed.channels.get(node.name) if self.probed is not None else None
            if seen is not None and seen.low.size == numbers.size and seen.finite:
                found.append(Coded(node.name, numbers.ravel(), seen.low, seen.high, seen.square))
        return found


def _summary(chosen: Sequence[Choice]) -> str:
    worst = max(chosen, key=lambda c: c.ratio_before)
    gain = float(np.mean([c.gain_db for c in chosen]))
    channels = sum(c.lanes.size for c in chosen)
    return (
        f"{len(chosen)} group{'s' if len(chosen) > 1 else ''} of tensors equalized, {channels} channels: the worst "
        f"channel range was {worst.ratio_before:.1f}x the median and is {worst.ratio_after:.1f}x now; the layers that "
        f"read them are predicted {gain:.1f} dB less noise"
    )


def _declined(editor: Editor, lanes: LaneMap) -> tuple[Any, ...]:
    start = len(editor.notes)
    for layer, by in lanes.blocked.items():
        text = f"equalize declined: {op_name(by)} ({label_of(by)}) does not commute with a factor"
        editor.note(text, kind="declined", node=layer)
    notes = tuple(editor.notes[start:])
    del editor.notes[start:]
    return notes


# -- groups ----------------------------------------------------------------------------------------------------------


def _groups(lanes: LaneMap, coded: Sequence[Coded]) -> list[Group]:
    """Tensors joined wherever they share a free lane, and the layers that read them."""
    known = {c.name: c for c in coded}
    # By lane, the first tensor that has it.
    owner = np.full(1 + max((int(c.lanes.max()) for c in coded), default=0), -1)
    parent = list(range(len(coded)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for index, tensor in enumerate(coded):
        lanes_of = np.unique(tensor.lanes[tensor.lanes > 0])
        owners = owner[lanes_of]
        owner[lanes_of[owners < 0]] = index
        for other in np.unique(owners[owners >= 0]).tolist():
            parent[find(index)] = find(other)
    groups: dict[int, Group] = {}
    place = {c.name: find(i) for i, c in enumerate(coded)}
    for tensor in coded:
        groups.setdefault(place[tensor.name], Group()).tensors.append(tensor)
    for site in lanes.sites:
        source = known.get(site.node.all_input_nodes[0].name)
        if site.read is not None and source is not None and site.node.target in (*CONVOLUTIONS, *LINEAR):
            groups[place[source.name]].readers.append(_reader(lanes, site, source))
    return [g for g in groups.values() if g.readers]


def _reader(lanes: LaneMap, site: Site, source: Coded) -> Reader:
    weight = detached(lanes.editor.tensor(site.node.args[1]))  # type: ignore[arg-type]
    groups = _conv_groups(site.node)
    rows, inner = weight.shape[0], weight.shape[1]
    taps = weight[0, 0].numel()
    # A reduction over one element is a slow copy.
    magnitude = weight.abs().reshape(rows, inner, -1)
    largest = magnitude.amax(-1) if taps > 1 else magnitude[..., 0]
    squares = weight.square().reshape(rows, inner, -1)
    energy = squares.sum(-1) if taps > 1 else squares[..., 0]
    power, made = _power(energy.reshape(groups, rows // groups, inner), torch.from_numpy(source.square))
    largest = largest.div_(made.reshape(rows, 1).sqrt().float())
    read = lanes.union.find(site.read) if site.read is not None else source.lanes
    if groups > 1 and inner > 1:
        # A grouped layer's rows see their own group's channels only: laid out as one block per group, padded by zeros.
        full = torch.zeros(rows, inner * groups)
        for g in range(groups):
            own = slice(g * rows // groups, (g + 1) * rows // groups)
            full[own, g * inner : (g + 1) * inner] = largest[own]
        largest = full
    mixes = inner > 1
    return Reader(
        read,
        largest.numpy() if mixes else np.zeros((1, 1)),
        power.numpy(),
        source.square,
        taps,
        mixes,
    )


def _power(energy: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """Each input channel's share of what the rows compute, summed over rows, float64 ``[C]``.

    A row's size is arbitrary (the layer behind divides by it), so each counts by what it computes, which is the second
    result, float64 ``[groups, rows, 1]``, 1 for a row that computes nothing.

    Args:
        energy: ``[groups, rows, inner]`` sums of squared weights; in float64 it would be twice the layer, so that blocks
            of rows are taken one after the other.
        square: ``[C]`` mean squares of the channels.
    """
    groups, _, inner = energy.shape
    scale = square.reshape(groups, 1, inner)
    power, made = torch.zeros(groups, inner, dtype=torch.float64), []
    for block in energy.split(max(1, _BLOCK // (groups * inner)), dim=1):
        wide = block.double()
        total = (wide * scale).sum(-1, keepdim=True)
        alive = total > 0
        total = torch.where(alive, total, 1.0)
        power += torch.where(alive, wide.div_(total), 0.0).sum(1)
        made.append(total)
    return power.reshape(-1), torch.cat(made, dim=1)


def _conv_groups(node: fx.Node) -> int:
    return int(node.args[6]) if node.target in CONVOLUTIONS else 1  # type: ignore[call-overload]


# -- rewriting -------------------------------------------------------------------------------------------------------


def _table(chosen: Sequence[Choice]) -> dict[int, float]:
    return {int(lane): float(s) for c in chosen for lane, s in zip(c.lanes, c.factors)}


def _rescale(editor: Editor, lanes: LaneMap, site: Site, factors: Mapping[int, float]) -> None:
    made = _of(lanes, site.made, factors)
    read = None if site.read is None else _of(lanes, site.read, factors)
    if made is None and read is None:
        return
    node = site.node
    if node.target in (*CONVOLUTIONS, *LINEAR):
        _set(editor, node.args[1], _layer_weight(editor.tensor(node.args[1]), made, read, _conv_groups(node)))  # type: ignore[arg-type]
        _times(editor, node.args[2], made)
    elif node.target is aten.layer_norm.default:
        _times(editor, node.args[2], made)
        _times(editor, node.args[3], made)
    else:
        ratio = (made if made is not None else 1.0) / (read if read is not None else 1.0)
        _times(editor, node.args[1], ratio)  # type: ignore[arg-type]


def _of(lanes: LaneMap, which: Lanes, factors: Mapping[int, float]) -> Tensor | None:
    found = [factors.get(lane, 1.0) for lane in lanes.union.find(which).tolist()]
    return None if all(f == 1.0 for f in found) else torch.tensor(found, dtype=torch.float64)


def _layer_weight(weight: Tensor, made: Tensor | None, read: Tensor | None, groups: int) -> Tensor:
    new = detached(weight).double()
    tail = [1] * (weight.dim() - 2)
    if made is not None:
        new = new * made.reshape(-1, 1, *tail)
    if read is not None:
        # [out, in / groups, …]: the rows of group g read input channels g * in / groups and on.
        grouped = new.reshape(groups, -1, *new.shape[1:])
        new = (grouped / read.reshape(groups, 1, -1, *tail)).reshape(new.shape)
    return new


def _times(editor: Editor, constant: Any, factors: Tensor | None) -> None:
    if constant is None or factors is None:
        return
    value = detached(editor.tensor(constant)).double()
    _set(editor, constant, value * factors.reshape(value.shape))


def _set(editor: Editor, constant: Any, value: Tensor) -> None:
    editor.set_tensor(constant, value.to(constant.meta["val"].dtype))
