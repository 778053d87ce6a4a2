"""An order of channels in which a pattern n:m keeps more magnitude; the function stays what it was.

Pool and Yu, "Channel Permutations for N:M Sparsity", 2021: exchange channels between stripes of m while that helps. Here a
channel moves with all that carries its index, which the structure of the program knows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.editor import Editor, detached
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Floats, Ints
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.groups import Group, Structure, structure_of
from fxc.passes.prune.rules import RULES

_ROWS = 1024
"""Rows of the readers' weights that the search looks at."""


def permuted_for(
    program: Program, keep: int = 2, of: int = 4, *, rounds: int = 4, seed: int = 0, rules: Rules = RULES
) -> Program:
    """The program with the channels of each group in another order.

    Args:
        program: left as it is; canonical.
        keep, of: the pattern.
        rounds: how often every stripe meets as many others as there are stripes, at most.
        seed: of the order in which they meet.
        rules: what pruning knows about operators.
    """
    structure = structure_of(program, rules=rules)
    rng = np.random.default_rng(seed)
    moves: dict[int, Ints] = {}
    for group in structure.prunable:
        if _movable(structure, group, of):
            moves[id(group)] = order_for(_readers(structure, group, rng), keep, of, rounds, rng)
    return _moved(structure, moves)


def _movable(structure: Structure, group: Group, of: int) -> bool:
    """Whether every tensor has one index per unit, so that units are alike, and some layer reads whole stripes."""
    if len(group) % of or len(group) == of:
        return False
    index = structure.group_index[group.units[0]]
    slots = [structure.slots[place] for place in group.slots]
    counts = [
        int(np.count_nonzero(structure.group_index[structure.classes[s.atoms]] == index)) for s in slots
    ]
    return all(count == len(group) for count in counts) and any(slot.plays("in") for slot in slots)


def _readers(structure: Structure, group: Group, rng: np.random.Generator) -> Floats:
    """The weights that read the group, ``[rows, units]``, some rows of them."""
    columns = []
    for place in group.slots:
        slot = structure.slots[place]
        if slot.plays("in"):
            weight = structure.program.tensor(slot.target).detach().movedim(slot.axis, -1).flatten(0, -2)
            columns.append(weight.double().abs().numpy()[:, _positions(structure, group, place)])
    rows = np.concatenate(columns)
    return rows[rng.permutation(len(rows))[:_ROWS]]


def _positions(structure: Structure, group: Group, place: int) -> Ints:
    """Where each unit of the group stands along a slot."""
    classes = structure.classes[structure.slots[place].atoms]
    mine = np.flatnonzero(structure.group_index[classes] == structure.group_index[group.units[0]])
    found = np.empty(len(group), dtype=np.int64)
    found[structure.unit_index[classes[mine]]] = mine
    return found


def kept_magnitude(weights: Floats, keep: int, of: int) -> float:
    """What the pattern keeps of ``weights`` ``[rows, channels]``."""
    stripes = np.sort(weights.reshape(len(weights), -1, of), axis=2)
    return float(stripes[:, :, of - keep :].sum())


def order_for(weights: Floats, keep: int, of: int, rounds: int, rng: np.random.Generator) -> Ints:
    """An order of the columns of ``weights`` in which the pattern keeps at least as much as before."""
    order = np.arange(weights.shape[1])
    stripes = len(order) // of
    for _ in range(rounds * stripes):
        a, b = rng.choice(stripes, 2, replace=False)
        _exchange(weights, order, slice(a * of, a * of + of), slice(b * of, b * of + of), keep)
    return order


def _exchange(weights: Floats, order: Ints, a: slice, b: slice, keep: int) -> None:
    """The best exchange of one channel between two stripes, if any helps."""
    of = a.stop - a.start
    both = np.concatenate([order[a], order[b]])
    trials = np.tile(both, (of * of + 1, 1))
    for number in range(of * of):
        i, j = divmod(number, of)
        trials[number + 1, [i, of + j]] = both[[of + j, i]]
    parts = np.sort(weights[:, trials.reshape(-1, 2, of)], axis=3)[..., of - keep :]
    best = trials[parts.sum((0, 2, 3)).argmax()]
    order[a], order[b] = best[:of], best[of:]


def _moved(structure: Structure, moves: dict[int, Ints]) -> Program:
    """Every tensor with its groups' indices in their new order."""
    orders: dict[str, list[tuple[int, Ints]]] = {}
    for group in structure.prunable:
        for place in group.slots if id(group) in moves else ():
            slot = structure.slots[place]
            positions = _positions(structure, group, place)
            whole = np.arange(len(slot.atoms))
            whole[positions] = positions[moves[id(group)]]
            orders.setdefault(slot.target, []).append((slot.axis, whole))
    editor = Editor(structure.program, "permute")
    made: dict[int, Tensor] = {}
    by_tensor = {id(structure.program.tensor(target)): order for target, order in orders.items()}
    for node in editor.graph.nodes:
        if node.op == "get_attr" and (order := by_tensor.get(id(editor.program.tensor(str(node.target))))):
            original = editor.program.tensor(str(node.target))
            if id(original) not in made:
                made[id(original)] = _ordered(original, order)
            editor.set_tensor(node, made[id(original)])
    return editor.finish()


def _ordered(tensor: Tensor, orders: list[tuple[int, Ints]]) -> Tensor:
    found = detached(tensor)
    for axis, order in orders:
        found = found.index_select(axis, torch.from_numpy(order))
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(found, tensor.requires_grad)
    return found
