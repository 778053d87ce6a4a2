"""Which values of a tensor its readers can tell apart: the others need no codes."""

from __future__ import annotations

import math

from torch import fx

from fxc.compiler.origin import op_name

Range = tuple[float, float]
EVERYTHING: Range = (-math.inf, math.inf)

_READ = {
    "relu": (0.0, math.inf),
    "hardswish": (-3.0, math.inf),
    "hardsigmoid": (-3.0, 3.0),
    "sigmoid": (-8.0, 8.0),
}
"""``hardswish(x)`` is 0 below -3, ``hardsigmoid(x)`` constant outside [-3, 3] (Howard et al. 2019), ``relu`` 0 below 0;
``sigmoid(x)`` beyond 8 is within 3.4e-4 of 0 or 1, a twelfth of a step of its own codes."""

_HANDS_ON = frozenset(
    {
        "cat",
        "expand",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "permute",
        "reshape",
        "roll",
        "select",
        "slice",
        "squeeze",
        "unsqueeze",
        "upsample_nearest2d",
    }
)
"""Operators that give out values as they are: who reads the result reads the operand."""


def useful_ranges(graph: fx.Graph) -> dict[fx.Node, Range]:
    """By node: outside the range no reader, behind whatever only moves values, tells one value from another."""
    found: dict[fx.Node, Range] = {}
    for node in reversed(graph.nodes):
        ranges = [_read_by(reader, found) for reader in node.users]
        found[node] = (
            (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else EVERYTHING
        )
    return found


def _read_by(reader: fx.Node, found: dict[fx.Node, Range]) -> Range:
    if reader.op != "call_function":
        return EVERYTHING
    name = op_name(reader)
    return found[reader] if name in _HANDS_ON else _READ.get(name, EVERYTHING)
