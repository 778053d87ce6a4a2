"""The smaller program: every tensor indexed, every shape argument rewritten, every value's shape renewed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxc.compiler.editor import Editor
from fxc.compiler.errors import PassError
from fxc.compiler.fakes import fresh, is_plain
from fxc.compiler.origin import op_name, where
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Flags, Label
from fxc.passes.prune.flow import Changes, Cut, asked
from fxc.passes.prune.foreign import check_foreign, is_foreign
from fxc.passes.prune.groups import Structure


def cut_program(structure: Structure, keep: Flags, made_by: str) -> Program:
    """The program without the atoms that do not stay.

    Args:
        structure: of the program; its program is left as it is.
        keep: whether each atom stays, from :meth:`Structure.keep`.
        made_by: the pass's name.

    Raises:
        PassError: another package's rule failed, or is wrong about this program.
    """
    program, cut = structure.program, Cut(structure.flow, keep)
    editor = Editor(program, made_by)
    tensors: dict[int, Tensor] = {}
    changed: set[fx.Node] = set()
    values = _Values(cut)
    copies = dict(zip(program.graph.nodes, editor.graph.nodes))
    for old, new in copies.items():
        if old.op == "get_attr" and cut.shrinks(old):
            original = editor.tensor(new)
            if id(original) not in tensors:
                tensors[id(original)] = _cut_tensor(original, old, cut)
            editor.set_tensor(new, tensors[id(original)])
            changed.add(new)
        elif old.op == "call_function" and not changed.isdisjoint(new.all_input_nodes):
            rule = structure.rules.get(old.target)
            changes = {} if rule is None or rule.rewrite is None else asked(rule.rewrite, cut, old)
            changes, value = fx.map_arg(changes, copies.__getitem__), values.of(old)
            if is_foreign(structure, old):
                _rewrite(editor, new, changes, None)
                _check_shape(new, value)
            else:
                _rewrite(editor, new, changes, value)
            changed.add(new)
    smaller = editor.finish()
    check_foreign(structure, keep, smaller)
    return smaller


def _cut_tensor(tensor: Tensor, node: fx.Node, cut: Cut) -> Tensor:
    found = tensor.detach()
    for axis, label in enumerate(cut.flow.of(node)):
        if label is not None and not (stays := cut.kept(label)).all():
            found = found.index_select(axis, torch.from_numpy(np.flatnonzero(stays)).to(found.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(found, requires_grad=tensor.requires_grad)
    return found


def _rewrite(editor: Editor, node: fx.Node, changes: Changes, value: Tensor | None) -> None:
    args = tuple(changes.get(place, argument) for place, argument in enumerate(node.args))
    named = {name: value for name, value in changes.items() if isinstance(name, str)}
    editor.retarget(node, node.target, args, {**node.kwargs, **named}, val=value)
    if value is None:
        editor.revalue(node)


def _check_shape(node: fx.Node, wanted: Tensor | None) -> None:
    """Whether another package's operator gives the shape that its labels promise."""
    found = node.meta["val"]
    if wanted is not None and tuple(map(str, found.shape)) != tuple(map(str, wanted.shape)):
        raise PassError(
            f"the pruning rule of {op_name(node)} is wrong",
            where=where(node),
            why=f"by its labels the value is {list(wanted.shape)}, the operator makes {list(found.shape)}",
        )


class _Values:
    """Fake values after the cut, made from labels: to ask each operator for its shape takes ten times as long."""

    def __init__(self, cut: Cut):
        self._cut = cut
        self._made: dict[Any, Tensor] = {}

    def of(self, node: fx.Node) -> Tensor | None:
        """The new value of a node; ``None`` where only the operator itself knows it."""
        old, labels = node.meta["val"], self._cut.flow.of(node)
        if not is_plain(old):
            return None
        sizes = [self._size(size, label) for size, label in zip(old.shape, labels)]
        if None in sizes:
            return None
        key = old.dtype, tuple(size if isinstance(size, int) else size.node.expr for size in sizes)
        if key not in self._made:
            self._made[key] = fresh(old.fake_mode, sizes, old.dtype)
        return self._made[key]

    def _size(self, size: Any, label: Label) -> Any:
        if label is None:
            return size
        return self._cut.count(label, len(label)) if isinstance(size, int) else None
