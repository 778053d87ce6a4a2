"""``remove_dropout``: in evaluation a dropout does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import EXACT, Promise
from fxc.compiler.rule import RewritePass, Rule

aten = torch.ops.aten


class _Dropout(Rule):
    """dropout(x, p, False) -> x;  dropout(x, 0, train) -> x"""

    name = "remove_dropout"
    anchors = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)

    def check(self, match: fx.Node, editor: Editor) -> str | None:
        """A dropout that trains is random."""
        trains = match.args[2] is not False and match.args[1] != 0
        return "it is in training mode; call model.eval() before capture" if trains else None

    def rewrite(self, match: Any, editor: Editor) -> None:
        """Its readers read its input."""
        editor.replace(match, match.args[0])


@dataclass(frozen=True)
class RemoveDropout(RewritePass):
    """Remove dropouts that do nothing. Afterwards the program cannot be trained with dropout any more.

    Before::

        %dropout = dropout(%relu, 0.5, False)
        %fc = linear(%dropout, fc.weight, fc.bias)

    After::

        %fc = linear(%relu, fc.weight, fc.bias)
    """

    name: ClassVar[str] = "remove_dropout"
    promise: ClassVar[Promise] = EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})
    rules: ClassVar[tuple[Rule, ...]] = (_Dropout(),)
