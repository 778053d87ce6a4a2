"""Rules about float types in strongly typed networks (TensorRT 11): what the file says is what runs."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting, strongly_typed
from fxc.backends.tensorrt.checker.walk import DEQUANTIZE, QUANTIZE

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}

_FREE = ("Cast", "Resize", "Dropout", "If", "Loop", "Scan", DEQUANTIZE)
"""Operators whose float inputs may differ in type."""

REDUCTIONS = (
    "LayerNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "Softmax",
    "LogSoftmax",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSumExp",
)


def mixed_types(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, migration to 11.x: no implicit conversion, operands of one layer have one type."""
    for node in view.nodes:
        if node.op in _FREE or (node.op == QUANTIZE and view.opset < 19):
            continue
        types = {view.dtype(name) for name in filter(None, node.inputs)} & _FLOATS
        if len(types) > 1:
            yield Place(node, _odd(view, node), f"{_words(types)} meet at {node.op} without a Cast")


def _odd(view: View, node: Node) -> str:
    """The first float input of another type than the first one."""
    floats = [name for name in node.inputs if name and view.dtype(name) in _FLOATS]
    return next(name for name in floats if view.dtype(name) != view.dtype(floats[0]))


def half_reduction(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, migration to 11.x: sums of normalisations and softmax are kept in float32 by the file.

    Up to 10.x the builder saw to that; a strongly typed half sum overflows at 65504.
    """
    for node in view.of(*REDUCTIONS):
        if (dtype := view.dtype(node.input(0))) in _HALVES:
            yield Place(
                node, node.input(0), f"{node.op} sums in {_words({dtype})}; cast to float32 around it"
            )


def _words(types: set[int]) -> str:
    return " and ".join(TensorProto.DataType.Name(t).lower() for t in sorted(types))  # type: ignore[arg-type]


RULES = (
    Rule("mixed-types", "error", mixed_types, strongly_typed),
    Rule("half-reduction", "error", half_reduction, strongly_typed),
)
