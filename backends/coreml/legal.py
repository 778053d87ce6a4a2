"""What Core ML, by coremltools' converter, cannot take of a program; known before it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from fxc.backends.coreml.engine_lint import findings, input_findings
from fxc.backends.coreml.image import why_no_image
from fxc.backends.coreml.known import KNOWN
from fxc.compiler.backend import Violation
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.macs import TRANSPOSED
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.target import Target

_SEEN = "coremltools 9.0"
_CUT = "cut the graph before it (outputs=…), or replace it in the model"


def check(program: Program, target: Target, *, lowerings: Functions = EMPTY) -> list[Violation]:
    """Every operator that the converter has no form for, or gets wrong, and every tensor of too many dimensions; not fatal:
    what the Neural Engine does not like.

    Args:
        lowerings: not used: the converter's own are.
    """
    found = []
    if (reason := why_no_image(program)) is not None:
        fix = 'image_input="rgb" with a model that takes normalised floats'
        found.append(Violation(program.tensor_inputs[0].name, None, reason, fix))
    for name, rule, fix in input_findings(program, target):
        found.append(Violation(name, None, rule, fix, fatal=False))
    for node in program.graph.nodes:
        for rule, fix in _rules(node, target):
            found.append(Violation(label_of(node), origin_of(node).source, rule, fix))
        for rule, fix in findings(node, target):
            found.append(Violation(label_of(node), origin_of(node).source, rule, fix, fatal=False))
    return found


def _rules(node: fx.Node, target: Target) -> Iterator[tuple[str, str]]:
    if node.op != "call_function":
        return
    name = op_name(node)
    if name not in KNOWN:
        yield f"{name} has no form that {_SEEN} writes", _CUT
    most = target.limits.max_rank
    value: Any = node.meta.get("val")
    if most is not None and isinstance(value, torch.Tensor) and value.dim() > most and not _taken_apart(node):
        yield f"rank {value.dim()} is above Core ML's limit of {most}", "merge dimensions in the model"
    reason = _ARGUMENTS[name](node) if name in _ARGUMENTS else None
    if reason is not None:
        yield f"{_SEEN} cannot write {name} {reason}", _CUT
    if node.target in TRANSPOSED and _pads_more_than_it_cuts(node):
        yield (
            f"{_SEEN} makes the wrong size of a transposed convolution whose output_padding is above its padding",
            "pad the result instead (F.pad), or raise the padding",
        )


def _taken_apart(node: fx.Node) -> bool:
    """Whether the converter splits it: a reshape to many dimensions, permuted and reshaped again (windows of an image)."""
    return op_name(node) in _SPLIT and all(op_name(reader) in _SPLIT for reader in node.users)


_SPLIT = ("reshape", "permute")


def _pads_more_than_it_cuts(node: fx.Node) -> bool:
    padding, extra = node.args[4], node.args[5]
    if not isinstance(padding, (tuple, list)) or not isinstance(extra, (tuple, list)):
        return False
    return any(int(e) > int(p) for e, p in zip(extra, padding))  # type: ignore[arg-type]


def _dilated(node: fx.Node) -> str | None:
    return "with a dilation" if any(d != 1 for d in _listed(node, 4)) else None


def _divided(node: fx.Node) -> str | None:
    return "with a divisor_override" if len(node.args) > 6 and node.args[6] is not None else None


def _padded(node: fx.Node) -> str | None:
    mode = node.args[2] if len(node.args) > 2 else "constant"
    if any(isinstance(w, int) and w < 0 for w in _listed(node, 1)):
        return "by less than nothing"
    return f"in {mode} mode" if mode not in ("constant", "reflect", "replicate") else None


def _vector(node: fx.Node) -> str | None:
    operands: list[Any] = list(node.args[:2])
    return "of a vector" if any(o.meta["val"].dim() < 2 for o in operands) else None


def _of_integers(node: fx.Node) -> str | None:
    source: Any = node.args[0]
    return None if source.meta["val"].is_floating_point() else "of integers"


def _listed(node: fx.Node, index: int) -> list[Any]:
    value = node.args[index] if len(node.args) > index else ()
    return list(value) if isinstance(value, (tuple, list)) else [value]


_ARGUMENTS = MappingProxyType(
    {
        "max_pool1d": _dilated,
        "max_pool2d": _dilated,
        "max_pool3d": _dilated,
        "avg_pool2d": _divided,
        "avg_pool3d": _divided,
        "pad": _padded,
        "matmul": _vector,
        "softmax": _of_integers,
    }
)
"""What, of an operator that is known, is not: in words."""
