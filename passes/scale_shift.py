"""``scale_shift``: a batch norm that no layer could take becomes one multiplication and one addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import FoldedNorm, Program
from fxc.compiler.rule import Rule, apply_rules
from fxc.passes.batch_norm import batch_norm_affine, folded_norm, why_not_affine
from fxc.passes.values import dtype, rank

aten = torch.ops.aten


@dataclass(frozen=True)
class ScaleShift(Pass):
    """Write evaluated batch norms as ``x * scale + shift``.

    Before::

        %norm = batch_norm(%cat, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.1, 1e-05, False)

    After::

        %norm_scale = mul(%cat, _fxc.norm_scale)         # [1, C, 1, 1]
        %norm = add(%norm_scale, _fxc.norm_shift)

    The statistics go to ``Program.folded_norms`` under the batch norm's own label, which the addition carries on.
    """

    name: ClassVar[str] = "scale_shift"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program: Program) -> PassResult:
        """One walk; a batch norm that stays has a note that says why."""
        if not any(node.target is aten.batch_norm.default for node in program.graph.nodes):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        norms: dict[str, FoldedNorm] = {}
        apply_rules(editor, (_ScaleShift(norms),))
        notes = tuple(editor.notes)
        if not editor.modified:
            return PassResult(program, modified=False, notes=notes)
        folded = {**program.folded_norms, **norms}
        return PassResult(editor.finish(folded_norms=folded), modified=True, notes=notes)


class _ScaleShift(Rule):
    """batch_norm(x, w, b, mean, var) -> x * scale + shift"""

    name = "scale_shift"
    anchors = (aten.batch_norm.default,)

    def __init__(self, norms: dict[str, FoldedNorm]):
        self.norms = norms

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """Training, or statistics of the batch."""
        return why_not_affine(match)

    def rewrite(self, match: fx.Node, editor: Editor) -> None:
        """Two operators over constants of shape [1, C, 1, …]."""
        affine, label = batch_norm_affine(match, editor), label_of(match)
        self.norms[label] = folded_norm(match, editor)
        x: Any = match.args[0]

        def constant(values: Tensor, name: str) -> fx.Node:
            shaped = values.to(dtype(match)).reshape(1, -1, *[1] * (rank(match) - 2))
            return editor.constant(shaped, f"{label}.{name}", origins=(match,))

        with editor.before(match):
            scale, shift = constant(affine.scale, "scale"), constant(affine.shift, "shift")
            args = (x, scale)
            scaled = editor.call(
                aten.mul.Tensor, args, origins=(match,), suffix=".scale", val=match.meta["val"]
            )
        editor.retarget(match, aten.add.Tensor, (scaled, shift))
