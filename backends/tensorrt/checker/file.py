"""Rules about the file as a whole: its opset, and operators that the parser does not know."""

from __future__ import annotations

from collections.abc import Iterator

from fxc.backends.tensorrt.checker.graph import View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting

OPSETS = (((8, 4), 7, 13), ((10,), 7, 17), ((11,), 9, 20), ((99,), 9, 25))
"""Versions below the first number read opsets from the second to the third."""

UNKNOWN = (
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
)
"""Integer operators of ONNX that have no importer."""


def opset_range(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, ONNX opset guide: each version reads opsets up to one of its own."""
    lowest, highest = next((low, high) for below, low, high in OPSETS if setting.version < below)
    version = ".".join(map(str, setting.version))
    if not lowest <= view.opset <= highest:
        yield Place(None, "", f"opset {view.opset}; TensorRT {version} reads {lowest} to {highest}")


def not_parsed(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt ``docs/operators.md``: of quantization only QuantizeLinear and DequantizeLinear are parsed."""
    for node in view.nodes:
        if node.op in UNKNOWN:
            yield Place(node, node.output, f"{node.op} has no importer; TensorRT reads Q/DQ pairs only")
        elif node.domain:
            yield Place(
                node, node.output, f"{node.domain}.{node.op} is not a standard operator; it needs a plugin"
            )


RULES = (
    Rule("opset-range", "error", opset_range),
    Rule("not-parsed", "error", not_parsed),
)
