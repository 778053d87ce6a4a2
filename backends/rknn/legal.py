"""What RKNN-Toolkit2 cannot take of a program, known before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from fxc.backends.onnx.legal import violations
from fxc.backends.onnx.table import extended
from fxc.compiler.backend import Violation
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.macs import CONVOLUTIONS, TRANSPOSED
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.compiler.toolchain.limit import seconds

_SEEN = "seen with version 2.5.0"
_UNKNOWN = frozenset({"max_pool3d", "upsample_bicubic2d", "upsample_trilinear3d"})
"""Operators that end the toolkit's process, or its build."""
_MANUAL = "RKNN-Toolkit2's operator list"
_KERNEL, _STRIDE, _PADDING, _DILATION = 31, 7, 15, 31


def check(program: Program, target: Target, *, lowerings: Functions = EMPTY) -> list[Violation]:
    """Every operator without an ONNX form or that the toolkit does not know, and every size outside the NPU's limits.

    Args:
        lowerings: of extensions, beside those of ``backends/onnx``.

    Raises:
        UsageError: the toolkit's time limit is no number: said now rather than behind the calibration.
    """
    seconds()
    found = violations(program, opset=target.opset, limits=target.limits, table=extended(lowerings))
    for node in program.graph.nodes:
        for rule, fix in _rules(node):
            found.append(Violation(label_of(node), origin_of(node).source, rule, fix))
    return found


def _rules(node: fx.Node) -> Iterator[tuple[str, str]]:
    name = op_name(node)
    if node.target in CONVOLUTIONS or node.target in TRANSPOSED:
        yield from _convolution(node)
    elif name in _UNKNOWN:
        yield (
            f"RKNN-Toolkit2 cannot build {name} ({_SEEN})",
            "cut the graph before it (outputs=…), or replace it",
        )
    elif name == "layer_norm" and len(node.args[1]) > 1:  # type: ignore[arg-type]
        yield (
            f"RKNN-Toolkit2 takes layer_norm over the last dimension only ({_SEEN}), this one is over {len(node.args[1])}",  # type: ignore[arg-type]
            "flatten those dimensions in the model, or use group_norm with one group",
        )


def _convolution(node: fx.Node) -> Iterator[tuple[str, str]]:
    weight: Any = node.args[1]
    sizes = {
        "kernel": (tuple(weight.meta["val"].shape[2:]), _KERNEL),
        "stride": (node.args[3], _STRIDE),
        "padding": (node.args[4], _PADDING),
        "dilation": (node.args[7 if node.target in TRANSPOSED else 5], _DILATION),
    }
    for word, (values, most) in sizes.items():
        if isinstance(values, (tuple, list)) and (large := max(values, default=0)) > most:
            yield (
                f"{op_name(node)} has {word} {large}; the NPU takes up to {most} ({_MANUAL})",
                f"replace it by several smaller ones, or keep the {word} within {most}",
            )
