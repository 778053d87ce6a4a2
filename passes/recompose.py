"""``recompose``: whole operators from their pieces, and no copies for layout's sake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import Rule
from fxc.passes import canonical_shape, recompose_matrix, recompose_moves, recompose_pointwise
from fxc.passes.spelling import settle

RULES: tuple[Rule, ...] = (
    *recompose_moves.RULES,
    *recompose_pointwise.RULES,
    *recompose_matrix.RULES,
    # What a rewrite leaves may merge further: two permutes, a slice of everything.
    *canonical_shape.RULES,
)


@dataclass(frozen=True)
class Recompose(Pass):
    """Put whole operators together from their pieces, and drop copies that only change strides.

    Before::

        %copy = contiguous(%x)
        %sigmoid = sigmoid(%copy)
        %mul = mul(%copy, %sigmoid)
        %mean = mean(%mul, [2, 3])
        %t = permute(fc.weight, [1, 0])
        %addmm = addmm(fc.bias, %mean, %t)

    After::

        %mul = silu(%x)
        %mean_pool = adaptive_avg_pool2d(%mul, [1, 1])
        %mean = squeeze(%mean_pool, [2, 3])
        %addmm = linear(%mean, fc.weight, fc.bias)

    Pieces that something else reads too are left alone.
    """

    name: ClassVar[str] = "recompose"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program: Program) -> PassResult:
        """The rules until nothing changes; the pieces that nothing reads any more go."""
        editor = Editor(program, self.name)
        settle(editor, RULES)
        if not editor.modified:
            return PassResult(program, modified=False)
        editor.sweep()
        recompose_matrix.name_layers(editor)
        return PassResult(editor.finish(), modified=True)
