"""The pass ``apply_plan``: the cut alone, by a plan that was made before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.notes import notes_of
from fxc.passes.prune.plan import Plan
from fxc.passes.prune.rules import RULES


@dataclass(frozen=True)
class ApplyPlan(Pass):
    """Remove the channels that a plan names.

    Attributes:
        of: the plan's hash; filled in from ``plan``.
        plan: the plan.
        rules: what pruning knows about operators; not part of the text, the catalogue puts in those of extensions.
    """

    name: ClassVar[str] = "apply_plan"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    of: str = ""
    plan: Plan | None = field(default=None, compare=False, repr=False)
    rules: Rules = field(default_factory=lambda: RULES, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.plan is not None:
            object.__setattr__(self, "of", self.plan.digest())

    def apply(self, program: Program) -> PassResult:
        """Cut.

        Raises:
            UsageError: the plan is another program's, or there is none.
        """
        if self.plan is None:
            raise UsageError(
                "apply_plan has no plan",
                why="its text holds the plan's hash alone",
                fix="ApplyPlan(plan=plan)",
            )
        structure = structure_of(program, heads=self.plan.heads, rules=self.rules)
        keep, notes = self.plan.keep(structure), notes_of(self.plan, self.name)
        if keep.all():
            return PassResult(program, modified=False, notes=notes)
        return PassResult(cut_program(structure, keep, self.name), modified=True, notes=notes)


def apply_plan(program: Program, plan: Plan, rules: Rules = RULES) -> Program:
    """The smaller program.

    Raises:
        UsageError: the plan is another program's.
    """
    return ApplyPlan(plan=plan, rules=rules).apply(program).program
