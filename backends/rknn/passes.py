"""Graph work that only RKNN needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target
from fxc.passes.substitute import Substitute


def pipeline(target: Target) -> tuple[Pass, ...]:
    """Patch embeddings without their stride, which the NPU does not have; transposed convolutions without groups, whose
    codes end the toolkit's process; and no concat that is taken apart again, as the NPU codes every concat with one scale."""
    return (Substitute(rules=("patch_conv", "dense_conv_transpose", "slice_of_cat")),)
