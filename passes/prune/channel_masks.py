"""A plan as masks: the channels that would go are at zero, every shape is the original's, and all can be taken back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxc.compiler.editor import Editor
from fxc.compiler.program import Program
from fxc.passes.prune.apply_plan import apply_plan
from fxc.passes.prune.atoms import Flags
from fxc.passes.prune.groups import Structure, structure_of
from fxc.passes.prune.masks import with_masks
from fxc.passes.prune.plan import Plan

_NOT_HIDDEN = ("mean", "var")
"""Statistics of a batch norm: its scale and shift are hidden, so that nothing of them is seen."""


@dataclass(frozen=True)
class Masked:
    """A program with a plan's channels hidden.

    Attributes:
        program: the masked one; its parameters are its own.
        plan: what is hidden.
        original: the program as it was.
    """

    program: Program
    plan: Plan
    original: Program

    def recover(self) -> Program:
        """The program as it was, with exactly its weights, whatever happened to the masked one."""
        return self.original

    def module(self) -> nn.Module:
        """The masked program as an ordinary module, to be trained."""
        return self.program.module()

    def cut(self) -> Program:
        """The smaller program, with the weights that the masked one has now."""
        editor = Editor(self.original, "mask")
        for node in editor.graph.nodes:
            if node.op == "get_attr":
                editor.set_tensor(node, self.program.tensor(str(node.target)))
        return apply_plan(editor.finish(), self.plan)


def mask(program: Program, plan: Plan) -> Masked:
    """Hide what ``plan`` would remove.

    The masked program computes what the pruned one computes, except where a statistic is taken over pruned channels
    (``changes_statistics``): there the zeros count.

    Raises:
        UsageError: the plan is another program's.
    """
    plan.check(program)
    structure = structure_of(program, heads=plan.heads)
    return Masked(with_masks(program, _masks(structure, plan.keep(structure))), plan, program)


def _masks(structure: Structure, keep: Flags) -> dict[str, Tensor]:
    """For each tensor that would shrink ones and zeros, by every path under which it is read."""
    masks: dict[str, Tensor] = {}
    for slot in structure.slots:
        stays = keep[slot.atoms]
        if stays.all() or slot.plays(*_NOT_HIDDEN):
            continue
        tensor = structure.program.tensor(slot.target)
        shape = [-1 if axis == slot.axis else 1 for axis in range(tensor.dim())]
        own = torch.from_numpy(stays).to(tensor.device).reshape(shape)
        masks[slot.target] = masks[slot.target] & own if slot.target in masks else own
    same = {id(structure.program.tensor(target)): values for target, values in masks.items()}
    nodes = (n for n in structure.program.graph.nodes if n.op == "get_attr")
    found = {str(n.target): same.get(id(structure.program.tensor(str(n.target)))) for n in nodes}
    return {target: values for target, values in found.items() if values is not None}
