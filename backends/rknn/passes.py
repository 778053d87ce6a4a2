"""Graph work that only RKNN needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target
from fxc.passes.substitute import Substitute


def pipeline(target: Target) -> tuple[Pass, ...]:
    """Patch embeddings without their stride, which the NPU does not have; transposed convolutions without groups, whose
    codes end the toolkit's process."""
    return (Substitute(rules=("patch_conv", "dense_conv_transpose")),)
