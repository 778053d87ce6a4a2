"""What Core AI, by coreai-torch, cannot take of a program; known before it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from torch import fx

from fxc.backends.coreai.known import KNOWN
from fxc.compiler.backend import Violation
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.compiler.toolchain.limit import seconds

_SEEN = "coreai-torch 0.4.3"
_CUT = "cut the graph before it (outputs=…), or replace it in the model"


def check(program: Program, target: Target, *, lowerings: Functions = EMPTY) -> list[Violation]:
    """Every operator that the converter has no form for, or gets wrong.

    Args:
        lowerings: not used: the converter's own are.

    Raises:
        UsageError: the toolkit's time limit is no number: said now rather than behind the calibration.
    """
    seconds()
    return [
        Violation(label_of(node), origin_of(node).source, rule, fix)
        for node in program.graph.nodes
        for rule, fix in _rules(node)
    ]


def _rules(node: fx.Node) -> Iterator[tuple[str, str]]:
    if node.op != "call_function":
        return
    name = op_name(node)
    if name not in KNOWN:
        yield f"{name} has no form that {_SEEN} writes", _CUT
        return
    reason = _ARGUMENTS[name](node) if name in _ARGUMENTS else None
    if reason is not None:
        yield f"{_SEEN} cannot write {name} {reason}", _CUT


def _averaged(node: fx.Node) -> str | None:
    if _argument(node, 4, False):
        return "with ceil_mode"
    if not _argument(node, 5, True) and any(_argument(node, 3, ())):
        return "with a padding that is not counted"
    return None


def _enlarged(node: fx.Node) -> str | None:
    own, made = _sizes(node)
    return "to more than its input" if any(m > o for o, m in zip(own, made)) else None


def _uneven(node: fx.Node) -> str | None:
    own, made = _sizes(node)
    return "by a factor that is no whole number" if any(m % o for o, m in zip(own, made)) else None


def _circular(node: fx.Node) -> str | None:
    return "in circular mode" if _argument(node, 2, "constant") == "circular" else None


def _argument(node: fx.Node, index: int, default: Any) -> Any:
    return node.args[index] if len(node.args) > index else default


def _sizes(node: fx.Node) -> tuple[list[int], list[int]]:
    """The last two dimensions of input and output, which are numbers."""
    source: Any = node.args[0]
    return list(source.meta["val"].shape[-2:]), list(node.meta["val"].shape[-2:])


_ARGUMENTS = MappingProxyType(
    {
        "avg_pool2d": _averaged,
        "avg_pool3d": _averaged,
        "adaptive_avg_pool2d": _enlarged,
        "upsample_nearest2d": _uneven,
        "pad": _circular,
    }
)
"""What, of an operator that is known, is not: in words."""
