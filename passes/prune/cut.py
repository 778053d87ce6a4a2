"""The smaller program: every tensor indexed, every shape argument rewritten, every value's shape renewed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, fx, nn

from fxc.compiler.editor import Editor
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Flags
from fxc.passes.prune.flow import Changes, Cut, Rules
from fxc.passes.prune.groups import Structure
from fxc.passes.prune.rules import RULES


def cut_program(structure: Structure, keep: Flags, made_by: str, rules: Rules = RULES) -> Program:
    """The program without the atoms that do not stay.

    Args:
        structure: of the program; its program is left as it is.
        keep: whether each atom stays, from :meth:`Structure.keep`.
        made_by: the pass's name.
    """
    program, cut = structure.program, Cut(structure.flow, keep)
    editor = Editor(program, made_by)
    tensors: dict[int, Tensor] = {}
    changed: set[fx.Node] = set()
    copies = dict(zip(program.graph.nodes, editor.graph.nodes))
    for old, new in copies.items():
        if old.op == "get_attr" and cut.shrinks(old):
            original = editor.tensor(new)
            if id(original) not in tensors:
                tensors[id(original)] = _cut_tensor(original, old, cut)
            editor.set_tensor(new, tensors[id(original)])
            changed.add(new)
        elif old.op == "call_function" and not changed.isdisjoint(new.all_input_nodes):
            rule = rules.get(old.target)
            changes = {} if rule is None or rule.rewrite is None else rule.rewrite(cut, old)
            _rewrite(editor, new, fx.map_arg(changes, copies.__getitem__))
            changed.add(new)
    return editor.finish()


def _cut_tensor(tensor: Tensor, node: fx.Node, cut: Cut) -> Tensor:
    found = tensor.detach()
    for axis, label in enumerate(cut.flow.of(node)):
        if label is not None and not (stays := cut.kept(label)).all():
            found = found.index_select(axis, torch.from_numpy(np.flatnonzero(stays)).to(found.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(found, requires_grad=tensor.requires_grad)
    return found


def _rewrite(editor: Editor, node: fx.Node, changes: Changes) -> None:
    args = tuple(changes.get(place, argument) for place, argument in enumerate(node.args))
    named = {name: value for name, value in changes.items() if isinstance(name, str)}
    editor.retarget(node, node.target, args, {**node.kwargs, **named})
    editor.revalue(node)
