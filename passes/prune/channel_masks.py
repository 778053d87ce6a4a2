"""A plan as masks: the channels that would go are at zero, every shape is the original's, and all can be taken back."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from fxc.compiler.editor import Editor
from fxc.compiler.program import Program
from fxc.passes.prune.apply_plan import apply_plan
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.masks import masks_of, with_masks
from fxc.passes.prune.plan import Plan
from fxc.passes.prune.rules import RULES


@dataclass(frozen=True)
class Masked:
    """A program with a plan's channels hidden.

    Attributes:
        program: the masked one; its parameters are its own.
        plan: what is hidden.
        original: the program as it was.
        rules: what pruning knows about operators.
    """

    program: Program
    plan: Plan
    original: Program
    rules: Rules = field(default_factory=lambda: RULES, repr=False)

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
        return apply_plan(editor.finish(), self.plan, self.rules)


def mask(program: Program, plan: Plan, rules: Rules = RULES) -> Masked:
    """Hide what ``plan`` would remove.

    The masked program computes what the pruned one computes, except where a statistic is taken over pruned channels
    (``changes_statistics``): there the zeros count.

    Raises:
        UsageError: the plan is another program's.
    """
    plan.check(program)
    structure = structure_of(program, heads=plan.heads, rules=rules)
    return Masked(with_masks(program, masks_of(structure, plan.keep(structure))), plan, program, rules)
