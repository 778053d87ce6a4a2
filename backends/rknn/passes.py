"""Graph work that only RKNN needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target
from fxc.passes.substitute import Substitute


def pipeline(target: Target) -> tuple[Pass, ...]:
    """Patch embeddings without their stride, which the NPU does not have; transposed convolutions without groups, whose
    codes end the toolkit's process; and no concat that is taken apart again, as the NPU codes every concat with one scale.
    For the first generation of the toolkit every softmax is over the last axis: ONNX of its time took all axes from one on."""
    rules = ("patch_conv", "dense_conv_transpose", "slice_of_cat")
    return (Substitute(rules=(*rules, "last_axis_softmax") if "toolkit" in target.options else rules),)
