"""The pipelines that every target shares, as plain tuples of passes."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.passes.canonicalize import Canonicalize
from fxc.passes.constant_folding import ConstantFolding
from fxc.passes.cse import CommonSubexpressions
from fxc.passes.dead_code import DeadCode
from fxc.passes.fold_batch_norm import FoldBatchNorm
from fxc.passes.recompose import Recompose
from fxc.passes.remove_dropout import RemoveDropout
from fxc.passes.scale_shift import ScaleShift


def canonical() -> tuple[Pass, ...]:
    """One spelling for every operation; batch norm and dropout stay, so the program can still be trained."""
    return (Canonicalize(), Recompose(), DeadCode())


def simplify(added: tuple[Pass, ...] = ()) -> tuple[Pass, ...]:
    """For a canonical program, after anything that trains: what every target gains from.

    Args:
        added: further passes (the rules of extensions), run where what they make is still folded like the model's own.
    """
    return (
        RemoveDropout(),
        *added,
        ConstantFolding(),
        FoldBatchNorm(),
        ScaleShift(),
        # What dropout and folded constants stood between may merge now.
        Canonicalize(),
        Recompose(),
        CommonSubexpressions(),
        DeadCode(),
    )


def optimize(added: tuple[Pass, ...] = ()) -> tuple[Pass, ...]:
    """From a captured program to the one that targets start from; numbers move by float rounding only."""
    return (*canonical(), *simplify(added))
