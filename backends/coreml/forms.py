"""A value in another arrangement of its axes than the model's: which of its sizes stand where, and how to get from one to another.

The model's value of shape ``[B, S, C]`` may be carried as ``[B, C, 1, S]``. Every axis is a product of *atoms*; the model's own
reshapes and permutations only regroup them, so that nothing needs to be computed for those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor

aten = torch.ops.aten

BATCH = 1_000_003
"""What a symbolic size counts as: a prime that no other size has as a factor."""


class Atom:
    """A size that is never taken apart here; two of equal size are not the same."""

    def __init__(self, size: int):
        self.size = size


Group = tuple[Atom, ...]
Groups = tuple[Group, ...]


@dataclass(frozen=True)
class Form:
    """How a value is carried.

    Attributes:
        carrier: the node that has its numbers.
        groups: atoms of each axis of the carrier; no atom for a size of 1.
        dims: atoms of each axis that the model gives it.
        plain: a node of the model's own arrangement, if one is there.
    """

    carrier: fx.Node
    groups: Groups
    dims: Groups
    plain: fx.Node | None = None

    @property
    def turned(self) -> bool:
        """Whether nothing has the value in the model's own arrangement."""
        return self.plain is None


def sizes_of(node: fx.Node) -> tuple[int, ...]:
    """Sizes of a node's tensor, a symbolic one with its symbol at :data:`BATCH`."""
    return tuple(_number(d) for d in node.meta["val"].shape)


def regular(node: fx.Node) -> bool:
    """Whether a node's sizes can be taken apart: none is 0, and at most one is symbolic, as a multiple of its symbol."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return True
    sizes = sizes_of(node)
    free = [n for n, d in zip(sizes, value.shape) if not isinstance(d, int)]
    return all(sizes) and len(free) <= 1 and all(n % BATCH == 0 and n % BATCH**2 for n in free)


def _number(dim: Any) -> int:
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, BATCH)))


def atoms(sizes: Iterable[int]) -> Groups:
    """New atoms, one for each size that is not 1."""
    return tuple((Atom(s),) if s != 1 else () for s in sizes)


def size(group: Group) -> int:
    """Product of a group's sizes."""
    return prod(a.size for a in group)


def flat(groups: Groups) -> Group:
    """All atoms in order."""
    return tuple(a for group in groups for a in group)


def literal(groups: Groups) -> list[int]:
    """Sizes as a reshape takes them: -1 for the one that is symbolic."""
    return [-1 if size(g) % BATCH == 0 else size(g) for g in groups]


def regrouped(form: Form, sizes: Sequence[int]) -> Form | None:
    """The form of a reshape to ``sizes``; ``None`` if a new axis takes more than the end or the start of an atom.

    Atoms are split where a new axis ends within one, and the carrier's groups with them.
    """
    waiting, dims, split = list(flat(form.dims)), [], {}
    for wanted in sizes:
        group: list[Atom] = []
        while size(tuple(group)) < wanted:
            if not waiting:
                return None
            atom, missing = waiting.pop(0), wanted // size(tuple(group))
            if wanted % size(tuple(group)) or (atom.size > missing and atom.size % missing):
                return None
            if atom.size > missing:
                split[atom] = (Atom(missing), Atom(atom.size // missing))
                atom, rest = split[atom]
                waiting.insert(0, rest)
            group.append(atom)
        dims.append(tuple(group))
    return None if waiting else Form(form.carrier, _refined(form.groups, split), tuple(dims))


def _refined(groups: Groups, split: dict[Atom, tuple[Atom, Atom]]) -> Groups:
    while any(a in split for a in flat(groups)):
        groups = tuple(tuple(p for a in group for p in split.get(a, (a,))) for group in groups)
    return groups


def like(form: Form, dims: Groups) -> Form | None:
    """``form`` with the atoms of ``dims`` in the place of its own; ``None`` if their sizes are not the same."""
    if [[a.size for a in d] for d in form.dims] != [[a.size for a in d] for d in dims]:
        return None
    names = dict(zip(flat(form.dims), flat(dims)))
    return Form(form.carrier, tuple(tuple(names[a] for a in g) for g in form.groups), dims, form.plain)


def apart(groups: Groups, wanted: Group) -> Groups | None:
    """``groups`` with ``wanted`` as an axis of its own; ``None`` if they do not lie together."""
    if wanted in groups:
        return groups
    for i, group in enumerate(groups):
        if wanted and set(wanted) <= set(group):
            start = group.index(wanted[0])
            parts = (group[:start], group[start : start + len(wanted)], group[start + len(wanted) :])
            if parts[1] == wanted:
                return (*groups[:i], *(p for p in parts if p), *groups[i + 1 :])
    return None


class Arranger:
    """Makes the nodes that carry values in an arrangement; what was made once is used again."""

    def __init__(self, editor: Editor):
        self.editor = editor
        self._made: dict[Any, fx.Node] = {}

    def arranged(self, form: Form, groups: Groups, *, origin: fx.Node) -> fx.Node:
        """A node that carries the value as ``groups`` say, made at the editor's insertion point."""
        if form.plain is not None and groups == form.dims:
            return form.plain
        if groups == form.groups:
            return form.carrier
        key = (form.carrier, groups)
        if key not in self._made:
            self._made[key] = self._arrange(form, groups, origin)
        return self._made[key]

    def _arrange(self, form: Form, groups: Groups, origin: fx.Node) -> fx.Node:
        node, have, want = form.carrier, flat(form.groups), flat(groups)
        now = form.groups
        if have != want:
            if any(len(g) != 1 for g in now):
                now = tuple((a,) for a in have)
                node = self._call(aten.reshape.default, (node, literal(now)), origin)
            node = self._call(aten.permute.default, (node, [have.index(a) for a in want]), origin)
            now = tuple((a,) for a in want)
        if now != groups:
            node = self._call(aten.reshape.default, (node, literal(groups)), origin)
        return node

    def _call(self, target: Any, args: tuple[Any, ...], origin: fx.Node) -> fx.Node:
        return self.editor.call(target, args, origins=(origin,), suffix=".layout")


def arranged_tensor(tensor: Tensor, dims: Groups, groups: Groups) -> Tensor | None:
    """A constant that is broadcast to ``dims``, arranged as ``groups``; ``None`` if it does not fit.

    An axis of size 1 stays one in the place of every atom of its axis.
    """
    shape = (1,) * (len(dims) - tensor.dim()) + tuple(tensor.shape)
    if len(shape) != len(dims) or any(s not in (1, size(d)) for s, d in zip(shape, dims)):
        return None
    full = {a: s == size(d) for s, d in zip(shape, dims) for a in d}
    have, want = flat(dims), flat(groups)
    taken = tensor.reshape([a.size if full[a] else 1 for a in have]).permute([have.index(a) for a in want])
    return taken.reshape([prod(a.size for a in g if full[a]) for g in groups]).contiguous()
