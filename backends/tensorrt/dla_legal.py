"""What the deep learning accelerator of Xavier and Orin takes. What it does not goes back to the GPU, and is said; a shape that
is not fixed stops the compile.

Sources: TensorRT developer guide, "Working with DLA", general restrictions, layer support and restrictions; NVIDIA's list of
ONNX operators on Orin's accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, fx

from fxc.compiler.backend import Violation
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.quant import QuantScheme

MAX_BATCH, MAX_SIZE = 4096, 8192
_LIMITS = (MAX_BATCH, *[MAX_SIZE] * 8)
MAX_WINDOW = 8
"""Of a pool."""

_CONVOLUTION = {"kernel": (1, 32), "stride": (1, 8), "padding": (0, 31), "dilation": (1, 32)}
_DECONVOLUTION = {
    "kernel": (1, 32),
    "stride": (1, 32),
    "padding": (0, 0),
    "output padding": (0, 0),
    "dilation": (1, 1),
}
_POOL = {"kernel": (1, MAX_WINDOW), "stride": (1, 16), "padding": (0, 7), "dilation": (1, 1)}
_FACTORS = {"upsample_nearest2d": 32, "upsample_bilinear2d": 4}

Finding = tuple[str, str]
"""The rule that a layer breaks, and the way out."""


def check_dla(program: Program, scheme: QuantScheme) -> Iterator[Violation]:
    """Every layer that runs on the GPU instead, and every input whose shape is not fixed."""
    for node in program.graph.nodes:
        if node.op == "placeholder" and not _is_static(node):
            yield _violation(node, _DYNAMIC, fatal=True)
        elif node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            found = _first(node, scheme) if _is_float(node) else None
            if found is not None:
                yield _violation(node, (f"{found[0]}; the GPU runs it", found[1]), fatal=False)


_DYNAMIC = (
    "the accelerator runs fixed shapes only, and this input has a dynamic batch",
    "give it a fixed one: dynamic_batch=False, --static-batch or --batch N",
)
_REPLACE = "replace it in the model, or leave it to the GPU"


def _violation(node: fx.Node, found: Finding, *, fatal: bool) -> Violation:
    return Violation(label_of(node), origin_of(node).source, found[0], found[1], fatal)


def _first(node: fx.Node, scheme: QuantScheme) -> Finding | None:
    op = op_name(node)
    rule = scheme.rule_for(op, _rank(node))
    if rule is None:
        return _without_rule(op, scheme)
    return _size(node) or (_CHECKS[op](node) if op in _CHECKS else None)


def _without_rule(op: str, scheme: QuantScheme) -> Finding:
    if op in _CURVES:
        return f"the accelerator has no {op}", "relu in its place runs on the accelerator"
    return scheme.keep_float.get(op, f"the accelerator has no {op}").split("; it runs")[0], _REPLACE


_CURVES = ("silu", "hardswish", "gelu", "mish", "elu", "hardsigmoid")


def _size(node: fx.Node) -> Finding | None:
    """Sizes of what a layer reads and writes, as far as they are fixed."""
    for value in (n.meta.get("val") for n in (node, *node.all_input_nodes) if n.op != "get_attr"):
        shape = [s if isinstance(s, int) else 1 for s in value.shape] if isinstance(value, Tensor) else []
        if any(size > limit for size, limit in zip(shape, _LIMITS)):
            rule = f"shape {shape} is above {MAX_BATCH} for the batch or {MAX_SIZE} elsewhere"
            return rule, "make it smaller"
    return None


def _outside(values: Mapping[str, Sequence[int]], limits: Mapping[str, tuple[int, int]]) -> Finding | None:
    for what, (low, high) in limits.items():
        if any(not low <= value <= high for value in values.get(what, ())):
            span = f"only {low}" if low == high else f"{low} to {high}"
            return (
                f"{what} {list(values[what])}, where the accelerator has {span}",
                f"choose a {what} within that",
            )
    return None


def _convolution(node: fx.Node) -> Finding | None:
    _, weight, _, stride, padding, dilation, groups = node.args
    shape = _shape(weight)
    values = {"kernel": shape[2:], "stride": stride, "padding": padding, "dilation": dilation}
    return _outside(values, _CONVOLUTION) or _channels(shape, groups)  # type: ignore[arg-type]


def _deconvolution(node: fx.Node) -> Finding | None:
    _, weight, _, stride, padding, output_padding, groups, dilation = node.args
    shape = _shape(weight)
    if groups != 1:
        return f"a transposed convolution in {groups} groups, where the accelerator has one", "use one group"
    values = {
        "kernel": shape[2:],
        "stride": stride,
        "padding": padding,
        "output padding": output_padding,
        "dilation": dilation,
    }
    return _outside(values, _DECONVOLUTION) or _channels(shape, groups)  # type: ignore[arg-type]


def _channels(shape: Sequence[int], groups: Any) -> Finding | None:
    widest = max(*shape[:2], int(groups))
    if widest > MAX_SIZE:
        return f"{widest} channels or groups, where the accelerator has up to {MAX_SIZE}", "use fewer"
    return None


def _max_pool(node: fx.Node) -> Finding | None:
    _, kernel, stride, padding, dilation, *_ = node.args
    return _pool(kernel, stride, padding, dilation)


def _avg_pool(node: fx.Node) -> Finding | None:
    _, kernel, stride, padding, *_ = node.args
    return _pool(kernel, stride, padding, (1,))


def _pool(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Finding | None:
    values = {"kernel": kernel, "stride": stride or kernel, "padding": padding, "dilation": dilation}
    return _outside(values, _POOL)


def _concat(node: fx.Node) -> Finding | None:
    axis, rank = node.args[1], node.meta["val"].dim()
    assert isinstance(axis, int)
    if axis % rank != 1:
        return (
            f"concatenation along axis {axis % rank}, where the accelerator has the channels only",
            _REPLACE,
        )
    return None


def _resize(node: fx.Node) -> Finding | None:
    before, after = _shape(node.args[0])[2:], _shape(node)[2:]
    highest, factors = _FACTORS[op_name(node)], [b / a for a, b in zip(before, after)]
    if any(factor != int(factor) or not 1 <= factor <= highest for factor in factors):
        text = " by ".join(f"{factor:g}" for factor in factors)
        return (
            f"resizing by {text}, where the accelerator has whole factors of 1 to {highest}",
            "choose such factors",
        )
    return None


_CHECKS: Mapping[str, Callable[[fx.Node], Finding | None]] = MappingProxyType(
    {
        "conv2d": _convolution,
        "conv_transpose2d": _deconvolution,
        "max_pool2d": _max_pool,
        "avg_pool2d": _avg_pool,
        "cat": _concat,
        "upsample_nearest2d": _resize,
        "upsample_bilinear2d": _resize,
    }
)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _rank(node: fx.Node) -> int:
    first = next((n for n in node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)), None)
    return first.meta["val"].dim() if first is not None else 0


def _is_static(node: fx.Node) -> bool:
    return all(isinstance(size, int) for size in node.meta["val"].shape)


def _is_float(node: fx.Node) -> bool:
    return bool(node.meta["val"].dtype.is_floating_point)
