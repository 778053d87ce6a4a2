"""Graph work that only Acme needs."""

from fxc.compiler.passbase import Pass
from fxc.compiler.target import Target


def pipeline(target: Target) -> tuple[Pass, ...]:
    """None."""
    return ()
