"""Every operator that a random model may hold, by name."""

from __future__ import annotations

from tests.random import blocks, layers, moves, pointwise, reductions
from tests.random.op import Op

KINDS = (pointwise, moves, reductions, layers, blocks)
OPS: dict[str, Op] = {name: op for kind in KINDS for name, op in kind.OPS.items()}
WEIGHTED: tuple[str, ...] = tuple(name for name, op in OPS.items() for _ in range(op.weight))
"""Every name as often as it should be tried."""
