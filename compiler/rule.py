"""Rewrite rules: a pattern, a check that declines with a reason, and a rewrite."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.program import Program


class Rule(abc.ABC):
    """One local rewrite, anchored at a node.

    ``anchors`` are the operator overloads at which :meth:`match` is tried. A match is any value that is not ``None``;
    :meth:`check` returns the reason why a matched place must be left alone (a *near miss*, kept for the report), or
    ``None``; :meth:`rewrite` changes the graph through the editor.
    """

    name: ClassVar[str]
    anchors: ClassVar[tuple[Any, ...]]

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """What the pattern bound at ``node``, or ``None`` if it is not there."""
        return node

    def check(self, match: Any, editor: Editor) -> str | None:
        """Why this match must be declined, or ``None``."""
        return None

    @abc.abstractmethod
    def rewrite(self, match: Any, editor: Editor) -> None:
        """Do it."""


@dataclass(frozen=True)
class RewritePass(Pass):
    """A pass that tries rules at every node, in one walk in topological order."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    def rule_table(self) -> tuple[Rule, ...]:
        """The rules to apply; a pass with options may choose among them."""
        return self.rules

    def apply(self, program: Program) -> PassResult:
        """One walk over the nodes; O(nodes x rules anchored at their operator)."""
        rules = self.rule_table()
        anchors = {anchor for rule in rules for anchor in rule.anchors}
        if not any(node.target in anchors for node in program.graph.nodes):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        apply_rules(editor, rules)
        self.after(editor)
        if not editor.modified:
            return PassResult(program, modified=False, notes=tuple(editor.notes))
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))

    def after(self, editor: Editor) -> None:
        """Hook for work after the walk."""


def apply_rules(editor: Editor, rules: tuple[Rule, ...]) -> None:
    """Try ``rules`` at every node of the editor's graph that still exists when it is reached."""
    table = _by_anchor(rules)
    for node in list(editor.graph.nodes):
        target = node.target
        for rule in table.get(target, ()):
            # A rule before this one may have erased the node or made another operator of it.
            if node._erased or node.target is not target:
                break
            _try(rule, node, editor)


def _try(rule: Rule, node: fx.Node, editor: Editor) -> None:
    match = rule.match(node, editor)
    if match is None:
        return
    reason = rule.check(match, editor)
    if reason is not None:
        editor.note(f"{rule.name} declined: {reason}", kind="declined", node=node)
        return
    rule.rewrite(match, editor)
    editor.modified = True


def _by_anchor(rules: tuple[Rule, ...]) -> dict[Any, list[Rule]]:
    table: dict[Any, list[Rule]] = {}
    for rule in rules:
        for anchor in rule.anchors:
            table.setdefault(anchor, []).append(rule)
    return table


def sole_user(node: fx.Node) -> fx.Node | None:
    """The only user of ``node``, or ``None`` if it has several or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def producer(node: Any, *targets: Callable[..., Any]) -> fx.Node | None:
    """``node`` if it is a call of one of ``targets``, else ``None``."""
    return (
        node if isinstance(node, fx.Node) and node.op == "call_function" and node.target in targets else None
    )
