"""``canonicalize``: one spelling for every operation, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import Rule
from fxc.passes import canonical_norm, canonical_pointwise, canonical_shape
from fxc.passes.canonical_args import normalize_args
from fxc.passes.spelling import settle

RULES: tuple[Rule, ...] = canonical_norm.RULES + canonical_pointwise.RULES + canonical_shape.RULES


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Write every operation in its one spelling, so that later passes match one form only.

    Before::

        %view = view(%x, [%sym_size, 2, 58, 14, 14])
        %transpose = transpose(%view, 1, 2)
        %contiguous = contiguous(%transpose)
        %view_1 = view(%contiguous, [%sym_size, 116, 14, 14])
        %split = split(%view_1, 58, 1)
        %getitem = getitem(%split, 1)
        %relu6 = relu6(%getitem)

    After::

        %view = reshape(%x, [-1, 2, 58, 14, 14])
        %transpose = permute(%view, [0, 2, 1, 3, 4])
        %contiguous = contiguous(%transpose)
        %view_1 = reshape(%contiguous, [-1, 116, 14, 14])
        %getitem = slice(%view_1, 1, 58, 116, 1)
        %relu6 = hardtanh(%getitem, 0.0, 6.0)

    Copies that change strides stay for ``recompose``: without them a later operator may add in another order.
    """

    name: ClassVar[str] = "canonicalize"
    promise: ClassVar[Promise] = EXACT
    ensures: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program: Program) -> PassResult:
        """Arguments first, then the rules until nothing changes."""
        editor = Editor(program, self.name)
        normalize_args(editor)
        settle(editor, RULES)
        notes = tuple(dict.fromkeys(editor.notes))
        if not editor.modified:
            return PassResult(program, modified=False, notes=notes)
        return PassResult(editor.finish(), modified=True, notes=notes)
