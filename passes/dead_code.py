"""``dead_code``: operators that nothing reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program


@dataclass(frozen=True)
class DeadCode(Pass):
    """Remove operators and tensors whose value reaches no output. Inputs stay, so that the signature stays.

    Before::

        %size = sym_size(%x, 0)
        %relu = relu(%x)
        return [%relu]

    After::

        %relu = relu(%x)
        return [%relu]
    """

    name: ClassVar[str] = "dead_code"
    promise: ClassVar[Promise] = EXACT

    def apply(self, program: Program) -> PassResult:
        """One walk from the outputs back."""
        if all(node.users or node.op in ("placeholder", "output") for node in program.graph.nodes):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        idle = any(node.op == "get_attr" and not node.users for node in editor.graph.nodes)
        if not editor.sweep() and not idle:
            return PassResult(program, modified=False)
        return PassResult(editor.finish(), modified=True)
