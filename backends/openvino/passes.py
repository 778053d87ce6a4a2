"""Graph work that only OpenVINO needs."""

from __future__ import annotations

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target
from fxc.passes.substitute import Substitute


def pipeline(target: Target) -> tuple[Pass, ...]:
    """Attention as its two products where the target codes the first; a float target hands it over whole.

    OpenVINO fuses both forms with the softmax between them.
    """
    return (Substitute(rules=("sdpa",)),) if target.quantized else ()
