"""The numbers of a Q/DQ file as RKNN-Toolkit2 must read them to arrive at those that are meant.

The toolkit takes every tensor with zero point 0 for a symmetric one, makes its scale 128/127 as large and, where it holds the
values, requantizes them. So such a scale is written 127/128 as large, and a weight's codes 128/127 as large. Seen with
versions 2.5.0 on convolutions: every code of the simulator's output is then the one that the meant numbers give.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

Array = np.ndarray[Any, Any]
_GROWN = 128 / 127


def rescale(graph: gs.Graph) -> None:
    """Write every int8 tensor with zero point 0, activation or weight, so that the toolkit's rescaling undoes it."""
    name_zero_points(graph)
    scales: dict[str, gs.Constant] = {}
    codes: dict[str, gs.Constant] = {}
    for node in graph.nodes:
        if node.op not in ("QuantizeLinear", "DequantizeLinear") or not _symmetric(node):
            continue
        node.inputs[1] = _once(scales, node.inputs[1], _shrunk)
        if isinstance(node.inputs[0], gs.Constant) and node.inputs[0].values.dtype == np.int8:
            node.inputs[0] = _once(codes, node.inputs[0], _spread)


def name_zero_points(graph: gs.Graph) -> None:
    """Give every quantizer a zero point: the toolkit looks for one, also of an int32 bias, where ONNX leaves it out."""
    for node in graph.nodes:
        if node.op == "DequantizeLinear" and len(node.inputs) == 2:
            codes, scale = node.inputs
            zeros = np.zeros(np.shape(scale.values), codes.dtype)
            node.inputs.append(gs.Constant(f"{scale.name}.zeros", zeros))


def _symmetric(node: gs.Node) -> bool:
    """Whether it codes int8 around 0; biases, in int32, are taken as they are."""
    if isinstance(node.inputs[0], gs.Constant) and node.inputs[0].values.dtype == np.int32:
        return False
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return zero is None or not np.any(zero.values)


def _once(known: dict[str, gs.Constant], constant: gs.Constant, change: Any) -> gs.Constant:
    if constant.name not in known:
        known[constant.name] = gs.Constant(f"{constant.name}.written", change(constant.values))
    return known[constant.name]


def _shrunk(scale: Array) -> Array:
    return np.asarray(scale.astype(np.float64) / _GROWN, np.float32)


def _spread(codes: Array) -> Array:
    return np.rint(codes.astype(np.float64) * _GROWN).astype(np.int8)
