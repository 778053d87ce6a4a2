"""What float16 cannot hold between quantizers: it stays float32 in the typed file, where int8 kernels do not mind.

A dequantizer of a scale beyond 65504 / 128 gives numbers that float16 has not. TensorRT computes a layer between quantizers
in int8 whatever the type between them is, so float32 costs nothing there; elsewhere it costs speed.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

_LARGEST = float(np.finfo(np.float16).max)
CODES = 128
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def too_wide(graph: gs.Graph) -> set[int]:
    """``id`` of every node that computes in float32 because a quantizer's scale says that its values leave float16's range.

    A dequantizer that also feeds others is doubled: between it and its product there must be no cast.
    """
    found: set[int] = set()
    for node in graph.nodes:
        if node.op in _QUANTIZERS and _leaves(node):
            found.add(id(node))
            if node.op == "QuantizeLinear":
                _backward(node.inputs[0], found)
            else:
                _forward(node.outputs[0], found)
    for node in [n for n in graph.nodes if id(n) in found and n.op not in _QUANTIZERS]:
        _own_dequantizers(graph, node, found)
    return found


def _leaves(node: gs.Node) -> bool:
    scale = node.inputs[1]
    return isinstance(scale, gs.Constant) and float(np.max(scale.values)) * CODES > _LARGEST


def _backward(tensor: gs.Tensor, found: set[int]) -> None:
    """What made a tensor, up to the int8 products whose sums these are."""
    for node in tensor.inputs:
        if node.op in _QUANTIZERS or id(node) in found:
            continue
        found.add(id(node))
        if not _is_int8(node):
            for source in node.inputs:
                _backward(source, found)


def _forward(tensor: gs.Tensor, found: set[int]) -> None:
    """What reads a tensor, up to the next quantizer or int8 product."""
    for node in tensor.outputs:
        if node.op in _QUANTIZERS or id(node) in found:
            continue
        found.add(id(node))
        if not _is_int8(node):
            for made in node.outputs:
                _forward(made, found)


def _is_int8(node: gs.Node) -> bool:
    makers = [tensor.inputs[0] if tensor.inputs else None for tensor in node.inputs[:2]]
    return node.op in _PRODUCTS and all(m is not None and m.op == "DequantizeLinear" for m in makers)


def _own_dequantizers(graph: gs.Graph, node: gs.Node, found: set[int]) -> None:
    for place, tensor in enumerate(node.inputs):
        maker = tensor.inputs[0] if tensor.inputs else None
        if maker is None or maker.op != "DequantizeLinear" or id(maker) in found:
            continue
        if len(tensor.outputs) > 1:
            maker = _doubled(graph, maker, node)
            node.inputs[place] = maker.outputs[0]
        found.add(id(maker))


def _doubled(graph: gs.Graph, maker: gs.Node, reader: gs.Node) -> gs.Node:
    old = maker.outputs[0]
    made = gs.Variable(f"{old.name}.{reader.name}", old.dtype, old.shape)
    copy = gs.Node(maker.op, f"{maker.name}.{reader.name}", dict(maker.attrs), list(maker.inputs), [made])
    graph.nodes.append(copy)
    return copy
