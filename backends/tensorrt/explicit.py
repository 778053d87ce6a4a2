"""The graph for TensorRT up to 10.x: float32, opset 17, weights quantized in the file.

TensorRT 8.x reads a weight as float values behind a quantizer and a dequantizer; codes alone are read from 10.0 on.
Source: TensorRT developer guide, "Explicit quantization"; ONNX-TensorRT operator notes on ``DequantizeLinear``.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def quantize_weights(graph: gs.Graph) -> None:
    """codes -> DequantizeLinear    ->    codes * scale -> QuantizeLinear -> DequantizeLinear"""
    for node in list(graph.nodes):
        if node.op != "DequantizeLinear" or not isinstance(node.inputs[0], gs.Constant):
            continue
        codes, scale = node.inputs[0], node.inputs[1].values
        values = float_weight(node)
        numbers, axis = node.inputs[1:], {"axis": _axis(node)} if np.ndim(scale) else {}
        zero = (
            numbers[1]
            if len(numbers) > 1
            else gs.Constant(f"{codes.name}.zero", np.zeros(np.shape(scale), np.int8))
        )
        quantized = gs.Variable(f"{codes.name}.codes", np.int8, codes.values.shape)
        graph.nodes.append(
            gs.Node("QuantizeLinear", f"{node.name}/quantize", axis, [values, numbers[0], zero], [quantized])
        )
        node.inputs = [quantized, numbers[0], zero]
    graph.toposort()


def float_weight(node: gs.Node) -> gs.Constant:
    """What a dequantizer of constant codes gives, as an initialiser."""
    codes, scale = node.inputs[0], node.inputs[1].values
    return gs.Constant(f"{codes.name}.values", codes.values * _along(scale, codes.values.ndim, _axis(node)))


def _axis(node: gs.Node) -> int:
    return int(node.attrs.get("axis", 1))


def _along(scale: np.ndarray, rank: int, axis: int) -> np.ndarray:
    if np.ndim(scale) == 0:
        return scale
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)
