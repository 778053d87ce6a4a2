"""Rules about weighted operators' weights and biases."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting
from fxc.backends.tensorrt.checker.walk import (
    DEQUANTIZE,
    WEIGHTED,
    back,
    dequantizer,
    operands,
    per_channel,
)


def _constant_operands(view: View) -> Iterator[tuple[Node, str]]:
    """Weighted operators with each constant operand."""
    for node in view.of(*WEIGHTED):
        yield from ((node, name) for name in operands(view, node) if view.constant(name))


def _channel_axis(view: View, node: Node, weight: str) -> int | None:
    """Axis of the output channels of a weight as its operator reads it."""
    if node.op in ("Conv", "ConvTranspose"):
        return 0 if node.op == "Conv" else 1
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    rank = len(view.shape(weight) or ())
    return rank - (1 if weight == node.input(1) else 2) if rank >= 2 else None


def _before(view: View, axis: int, passed: list[Node]) -> int | None:
    """Where an axis lies in front of transpositions; ``None`` behind other moving operators."""
    for move in passed:
        if move.op == "Identity":
            continue
        if move.op != "Transpose":
            return None
        rank = len(view.shape(move.input(0)) or ())
        axis = list(move.attributes.get("perm", range(rank)[::-1]))[axis]
    return axis


def weight_axis(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, explicit quantization: weights have one scale per output channel.

    That is axis 0 of Conv, 1 of ConvTranspose, 0 of Gemm with ``transB`` and else 1, the last of a MatMul.
    """
    for node, weight in _constant_operands(view):
        source, passed = back(view, weight)
        pair, axis = dequantizer(view, weight), _channel_axis(view, node, weight)
        wanted = None if axis is None else _before(view, axis, passed)
        if pair is None or wanted is None or not per_channel(view, pair):
            continue
        got = int(pair.attributes.get("axis", 1)) % max(len(view.shape(source) or ()), 1)
        if got != wanted and "axis" in pair.attributes:
            yield Place(node, weight, f"scales run along axis {got}; {node.op} needs them along {wanted}")


def weight_codes(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, quantized weights: codes in the file with a dequantizer alone are read from 10.0."""
    for node in view.of(DEQUANTIZE):
        codes = node.input(0)
        if setting.version < (10,) and view.initializer(codes) and view.dtype(codes) != TensorProto.INT32:
            yield Place(
                node,
                codes,
                "weights as codes; before 10.0 they must be float behind a quantizer of their own",
            )


def bias_codes(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IDequantizeLayer: its input is int8 or narrower, so an int32 bias behind one is not taken.

    onnx-tensorrt reads any other zero-point type as int8. A bias is left in float; the kernel adds it to the int32 sum.
    """
    found = {n: n.input(0) for n in view.of(DEQUANTIZE) if view.dtype(n.input(0)) == TensorProto.INT32}
    for node in view.of("Conv", "ConvTranspose", "Gemm"):
        pair = view.producer(node.input(2))
        if pair is not None and pair.op == DEQUANTIZE:
            found.setdefault(pair, pair.input(0))
    for node, codes in found.items():
        yield Place(node, codes, "a bias as codes; TensorRT dequantizes int8 only and takes biases in float")


def weight_only(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: quantize all inputs of a weighted operator, else it computes in float."""
    for node, weight in _constant_operands(view):
        data = _data(view, node)
        if dequantizer(view, weight) and data and not any(dequantizer(view, name) for name in data):
            yield Place(
                node, data[0], f"the weight of {node.op} is quantized, its input is not: it computes in float"
            )


def input_only(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: quantize all inputs of a weighted operator, its weight too."""
    for node, weight in _constant_operands(view):
        data = _data(view, node)
        if not dequantizer(view, weight) and any(dequantizer(view, name) for name in data):
            yield Place(
                node, weight, f"the input of {node.op} is quantized, its weight is not: it computes in float"
            )


def operand_float(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: a product of two activations needs both of them quantized."""
    for node in view.of(*WEIGHTED):
        data = _data(view, node)
        bare = [name for name in data if not dequantizer(view, name)]
        if len(data) == 2 and len(bare) == 1:
            yield Place(
                node,
                bare[0],
                f"one operand of {node.op} is quantized, the other is not: it computes in float",
            )


def _data(view: View, node: Node) -> list[str]:
    return [name for name in operands(view, node) if not view.constant(name)]


RULES = (
    Rule("weight-axis", "error", weight_axis),
    Rule("weight-codes", "error", weight_codes),
    Rule("bias-codes", "error", bias_codes),
    Rule("weight-only", "slow", weight_only),
    Rule("input-only", "slow", input_only),
    Rule("operand-float", "slow", operand_float),
)
