"""Rules about a single QuantizeLinear or DequantizeLinear: zero point, scale, axis, types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting
from fxc.backends.tensorrt.checker.walk import (
    DEQUANTIZE,
    QUANTIZE,
    activations,
    per_channel,
    quantizer,
    same_scale,
    scale,
)

_NARROW = {TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT4E2M1}
"""Code types that TensorRT 10 has beside int8."""

_HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _name(dtype: int) -> str:
    return TensorProto.DataType.Name(dtype).lower()  # type: ignore[arg-type]


def _pairs(view: View) -> Iterator[Node]:
    return view.of(QUANTIZE, DEQUANTIZE)


def _codes(view: View, node: Node) -> int:
    """Type of the codes that a node writes or reads."""
    if node.op == DEQUANTIZE:
        return view.dtype(node.input(0))
    if node.input(2):
        return view.dtype(node.input(2))
    return int(node.attributes.get("output_dtype", 0)) or int(TensorProto.UINT8)


def zero_point_constant(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IQuantizeLayer: the zero point is a build-time constant."""
    for node in _pairs(view):
        if node.input(2) and view.value(node.input(2)) is None:
            yield Place(node, node.input(2), "the zero point is computed; it must be a constant zero")


def zero_point_value(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IQuantizeLayer: quantization is symmetric, the zero point is all zeros."""
    for node in _pairs(view):
        zero = view.value(node.input(2)) if node.input(2) else None
        if zero is not None and np.any(zero):
            yield Place(
                node, node.input(2), f"zero point {_some(zero)}; only symmetric quantization is taken"
            )


def zero_point_missing(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt, QuantDequantLinearHelper: parsers of 8.x assert three inputs.

    A dequantizer's codes say their type; what a quantizer without zero point writes is a matter of ``code-type``.
    """
    for node in _pairs(view):
        bias = node.op == DEQUANTIZE and _codes(view, node) == TensorProto.INT32
        if not node.input(2) and not bias and setting.version < (10,):
            yield Place(node, node.input(0), "no zero point; parsers before 10.0 require three inputs")


def code_type(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt, QuantDequantLinearHelper: uint8 is refused or, with a warning, read as int8.

    That includes a quantizer without zero point: ONNX makes uint8 of it, the parser int8. Codes of int32 are a bias,
    and a dequantizer of floats stands behind another; both have rules of their own.
    """
    allowed = {TensorProto.UNDEFINED, TensorProto.INT8} | (_NARROW if setting.version >= (10,) else set())
    elsewhere = {TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT16}
    for node in _pairs(view):
        codes = _codes(view, node)
        if codes not in allowed and not (node.op == DEQUANTIZE and codes in elsewhere):
            yield Place(node, node.input(0), f"codes of type {_name(codes)}; TensorRT quantizes to int8")


def scale_constant(view: View, setting: Setting) -> Iterator[Place]:
    """``NvInfer.h``, IQuantizeLayer: the scale is a build-time constant."""
    for node in _pairs(view):
        if scale(view, node) is None:
            yield Place(node, node.input(1), "the scale is computed; it must be a constant")


def scale_value(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt, QuantDequantLinearHelper: scale coefficients must all be positive; not finite ones mean nothing."""
    for node in _pairs(view):
        array = scale(view, node)
        if array is not None and not (np.isfinite(array) & (array > 0)).all():
            yield Place(node, node.input(1), f"scale {_some(array)}; it must be positive and finite")


def scale_type(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, migration to 11.x: half scales are for strongly typed networks; ONNX has them from opset 19."""
    halves = _HALVES if setting.strong and view.opset >= 19 else set()
    allowed = {TensorProto.UNDEFINED, TensorProto.FLOAT} | halves
    for node in _pairs(view):
        if (dtype := view.dtype(node.input(1))) not in allowed:
            yield Place(node, node.input(1), f"scale of type {_name(dtype)}; here it must be float32")


def half_input(view: View, setting: Setting) -> Iterator[Place]:
    """ONNX, QuantizeLinear: before opset 19 its input is float32 (or int32)."""
    for node in view.of(QUANTIZE):
        if view.opset < 19 and view.dtype(node.input(0)) in _HALVES:
            yield Place(
                node, node.input(0), f"quantizes a half-precision tensor in opset {view.opset}; needs 19"
            )


def scale_shape(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt, QuantDequantLinearHelper: as many scales as channels, as many zero points as scales."""
    for node in _pairs(view):
        array = scale(view, node)
        problem = _shape_problem(view, node, array.shape) if array is not None else None
        if problem:
            yield Place(node, node.input(1), problem)


def _shape_problem(view: View, node: Node, shape: tuple[int, ...]) -> str | None:
    size = int(np.prod(shape))
    zeros = view.shape(node.input(2)) if node.input(2) else None
    if zeros is not None and None not in zeros and np.prod([z for z in zeros if z is not None]) != size:
        return f"{size} scales, but zero points of shape {list(zeros)}"
    data = view.shape(node.input(0))
    blocks = node.attributes.get("block_size", 0) and _codes(view, node) in _NARROW
    if size == 1 or data is None or blocks:
        return None
    axis = int(node.attributes.get("axis", 1))
    if len(shape) != 1 or not -len(data) <= axis < len(data):
        return f"scale of shape {list(shape)} along axis {axis} of data of rank {len(data)}"
    return (
        None if data[axis] in (size, None) else f"{size} scales for {data[axis]} channels along axis {axis}"
    )


def axis_missing(view: View, setting: Setting) -> Iterator[Place]:
    """onnx-tensorrt, QuantDequantLinearHelper: without the attribute it takes axis 0, where ONNX means 1.

    Operators of opset 10 have no axis at all.
    """
    for node in _pairs(view):
        if per_channel(view, node) and ("axis" not in node.attributes or view.opset < 13):
            yield Place(node, node.input(1), "per channel without an axis: ONNX means 1, TensorRT takes 0")


def activation_per_channel(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, explicit quantization: activations are quantized per tensor."""
    for op in (QUANTIZE, DEQUANTIZE):
        for node in activations(view, op):
            if per_channel(view, node):
                yield Place(
                    node, node.input(0), "one scale per channel on an activation; only weights may have that"
                )


def pair_scale(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, explicit quantization: a dequantizer undoes its quantizer, so their scales are equal."""
    for node in view.of(DEQUANTIZE):
        made = quantizer(view, node)
        if made is not None and not (same_scale(view, made, node) and _same_axis(view, made, node)):
            yield Place(node, node.input(0), f"scale or axis differs from that of its quantizer {made.name}")


def _same_axis(view: View, one: Node, other: Node) -> bool:
    rank = len(view.shape(one.input(0)) or ())
    adjacent = view.producer(other.input(0)) is one
    if not (rank and adjacent and per_channel(view, one)):
        return True
    return bool((one.attributes.get("axis", 1) - other.attributes.get("axis", 1)) % rank == 0)


def _some(array: np.ndarray) -> str:  # type: ignore[type-arg]
    values = array.ravel()[:3].tolist()
    return str(values[0]) if array.size == 1 else f"{values} and more"


RULES = (
    Rule("zero-point-constant", "error", zero_point_constant),
    Rule("zero-point-value", "error", zero_point_value),
    Rule("zero-point-missing", "error", zero_point_missing),
    Rule("code-type", "error", code_type),
    Rule("scale-constant", "error", scale_constant),
    Rule("scale-value", "error", scale_value),
    Rule("scale-type", "error", scale_type),
    Rule("scale-shape", "error", scale_shape),
    Rule("half-input", "error", half_input),
    Rule("axis-missing", "error", axis_missing),
    Rule("activation-per-channel", "error", activation_per_channel),
    Rule("pair-scale", "error", pair_scale),
)
