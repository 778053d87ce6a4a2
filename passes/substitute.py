"""``substitute``: operators that a target lacks, written with operators that it has."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import ClassVar

from fxc.compiler.editor import Editor
from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import Rule
from fxc.passes import (
    substitute_activation,
    substitute_conv,
    substitute_norm,
    substitute_shape,
    substitute_slice,
)
from fxc.passes.canonical_args import normalize_args
from fxc.passes.spelling import settle

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        *substitute_activation.RULES,
        *substitute_conv.RULES,
        *substitute_norm.RULES,
        *substitute_shape.RULES,
        *substitute_slice.RULES,
    )
}
"""Every substitution by name; its identity is the first line of its function's docstring."""


@dataclass(frozen=True)
class Substitute(Pass):
    """Replace operators by the chosen identities, until none of them applies any more.

    Before, with ``rules=[hardswish, hardsigmoid]``::

        %act = hardswish(%x)

    After::

        %act_hardsigmoid_add = add(%x, 3.0)
        %act_hardsigmoid_clamp = clamp(%act_hardsigmoid_add, 0.0, 6.0)
        %act_hardsigmoid = mul(%act_hardsigmoid_clamp, 1 / 6)
        %act = mul(%x, %act_hardsigmoid)

    The last operator keeps the name of the one it stands for. Run it after ``recompose``, which goes the other way.

    Attributes:
        rules: names from :data:`RULES`.
    """

    name: ClassVar[str] = "substitute"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown names before any work.

        Raises:
            UsageError: with the nearest names.
        """
        for name in self.rules:
            if name not in RULES:
                near = difflib.get_close_matches(name, RULES, n=3)
                raise UsageError(
                    f"substitute has no rule {name!r}",
                    fix=f"did you mean {', '.join(near)}?" if near else f"one of {', '.join(RULES)}",
                )

    def apply(self, program: Program) -> PassResult:
        """The chosen rules until nothing changes; the result is canonical again."""
        chosen = tuple(RULES[name] for name in self.rules)
        anchors = {anchor for rule in chosen for anchor in rule.anchors}
        if not any(node.target in anchors for node in program.graph.nodes):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        settle(editor, chosen)
        if not editor.modified:
            return PassResult(program, modified=False)
        editor.sweep()
        normalize_args(editor)
        return PassResult(editor.finish(), modified=True)
