"""``extension``: the rewrite rules that another package adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from fxc.compiler.editor import Editor
from fxc.compiler.errors import FxcError, PassError
from fxc.compiler.origin import where
from fxc.compiler.passbase import CLOSE, EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import Rule, apply_rules


@dataclass(frozen=True)
class ExtensionRules(Pass):
    """Apply an extension's rules, each in a walk of its own: a later rule sees what an earlier one made.

    Options:
        of: the extension's name.
        tolerance: the largest relative error that the rules may cause on any output; 0 for bit-exact ones.
        rules: not part of the text; the catalogue puts them in for the name.
    """

    name: ClassVar[str] = "extension"
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    of: str = ""
    tolerance: float = CLOSE.tolerance
    rules: tuple[Rule, ...] = field(default=(), compare=False)

    @property
    def promise(self) -> Promise:  # type: ignore[override]
        """What the extension declared: only here does it differ between two passes of one class."""
        return Promise("close", self.tolerance) if self.tolerance else EXACT

    def apply(self, program: Program) -> PassResult:
        """O(nodes) for each rule that has an anchor in the graph.

        Raises:
            PassError: a rule failed, or left a node without a value; the message names extension and rule.
        """
        targets = {node.target for node in program.graph.nodes}
        editor = Editor(program, f"extension:{self.of}")
        for rule in self.rules:
            if editor.modified or not targets.isdisjoint(rule.anchors):
                self._apply(rule, editor)
        notes = tuple(editor.notes)
        if not editor.modified:
            return PassResult(program, modified=False, notes=notes)
        return PassResult(editor.finish(), modified=True, notes=notes)

    def _apply(self, rule: Rule, editor: Editor) -> None:
        try:
            apply_rules(editor, (rule,))
        except FxcError:
            raise
        # Whatever another package's rule raises, the user must read whose rule it was.
        except Exception as error:
            raise self._failed(rule, f"{type(error).__name__}: {error}") from error
        for node in editor.graph.nodes:
            if node.op == "call_function" and "val" not in node.meta:
                raise self._failed(rule, "it made a node without a value", where(node))

    def _failed(self, rule: Rule, why: str, place: str | None = None) -> PassError:
        return PassError(
            f"rule {rule.name!r} of extension {self.of} failed",
            where=place,
            why=why,
            fix=f"a fault of the extension; skip=[{self.name!r}] leaves out the rules of all extensions",
        )
