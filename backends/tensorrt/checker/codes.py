"""Rules about the flow of integer codes: from a quantizer to dequantizers, through moving operators only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import TensorProto

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting
from fxc.backends.tensorrt.checker.walk import DEQUANTIZE, QUANTIZE, ends, moves

_BOUNDS = ("Clip", "Min", "Max")


def _passes(node: Node) -> bool:
    return moves(node) or node.op == "Concat"


def _read_by(view: View, wrong: Callable[[Node | None], bool]) -> Iterator[tuple[Node, Node | None]]:
    """Quantizers with the operators that read their codes and must not."""
    for node in view.of(QUANTIZE):
        for reader in ends(view, node.output, _passes):
            if wrong(reader):
                yield node, reader


def quantized_codes(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IQuantizeLayer: the input is a float tensor, not codes."""
    for node, reader in _read_by(view, lambda n: n is not None and n.op == QUANTIZE):
        yield Place(reader, node.output, f"quantizes what {node.name} has quantized already")


def dequantized_floats(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IDequantizeLayer: the input is a tensor of codes, not what another one has dequantized."""
    for node in view.of(DEQUANTIZE):
        if view.dtype(node.input(0)) in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield Place(node, node.input(0), "dequantizes a float tensor")


def clipped_codes(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt ``docs/operators.md``: Clip, Min and Max are not taken on int8 tensors.

    Such a clip narrows the code range, which TensorRT fixes at -128 to 127.
    """
    for node, reader in _read_by(view, lambda n: n is not None and n.op in _BOUNDS):
        yield Place(reader, node.output, f"bounds the codes of {node.name}; TensorRT's range is -128 to 127")


def read_codes(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, explicit quantization: between a quantizer and its dequantizer only data moves."""
    known = (QUANTIZE, DEQUANTIZE, *_BOUNDS)
    for node, reader in _read_by(view, lambda n: n is not None and n.op not in known):
        if reader is not None:
            yield Place(
                reader, node.output, f"{reader.op} reads the codes of {node.name} without a dequantizer"
            )


def output_codes(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, explicit quantization: what leaves the network is float, behind a dequantizer.

    A quantizer that nobody reads falls under the same rule.
    """
    for node, _ in _read_by(view, lambda n: n is None):
        yield Place(
            node, node.output, "its codes leave the network, or nobody reads them; a dequantizer is missing"
        )


RULES = (
    Rule("quantized-codes", "error", quantized_codes),
    Rule("dequantized-floats", "error", dequantized_floats),
    Rule("clipped-codes", "error", clipped_codes),
    Rule("read-codes", "error", read_codes),
    Rule("output-codes", "error", output_codes),
)
