"""Whether weights are 2:4 sparse, which TensorRT's sparse kernels want: of every four weights in a row two or more are zero.

In a row are four input channels of one output channel, at one position of a convolution's kernel; of a matrix product four rows of
the summed dimension. Source: TensorRT developer guide, "Structured sparsity"; ``samples/common/sampleUtils.cpp`` counts so too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_GROUP, _KEPT = 4, 2
_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
"""What stands between a weight and its layer, and leaves zeros zero and axes in place."""


def is_two_of_four(weight: Array, axis: int) -> bool:
    """Whether of each four neighbours along ``axis``, counted from the first, at most two are not zero.

    Args:
        weight: values or symmetric codes, of any shape.
        axis: of the input channels: 1 of a convolution's ``[out, in, ...]``, 0 of a product's ``[in, out]``.

    Returns:
        The last group may be shorter, as if zeros followed. An empty weight has no zeros to skip: ``False``.
    """
    if not weight.size:
        return False
    channels = np.moveaxis(weight != 0, axis, -1)
    short = -channels.shape[-1] % _GROUP
    full = np.pad(channels, [(0, 0)] * (channels.ndim - 1) + [(0, short)])
    return bool((full.reshape(*full.shape[:-1], -1, _GROUP).sum(-1) <= _KEPT).all())


def sparse_layers(model: Path) -> dict[str, bool]:
    """Each convolution and product with a constant weight in an ONNX file, and whether that weight is 2:4 sparse.

    Transposed convolutions are not in it: TensorRT has no sparse kernels for them.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model).graph
    weights = {w.name: w for w in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    found = {}
    for node in graph.node:
        axis = _input_axis(node)
        name = _source(node.input[1], makers) if axis is not None else ""
        if axis is not None and name in weights:
            found[node.name or node.output[0]] = is_two_of_four(numpy_helper.to_array(weights[name]), axis)
    return found


def _input_axis(node: Any) -> int | None:
    match node.op_type:
        case "Conv":
            return 1
        case "Gemm":
            return 1 if any(a.name == "transB" and a.i for a in node.attribute) else 0
        case "MatMul":
            return -2
        case _:
            return None


def _source(name: str, makers: dict[str, Any]) -> str:
    """The tensor that ``name`` is made from by quantizers and casts alone."""
    while name in makers and makers[name].op_type in _THROUGH:
        name = makers[name].input[0]
    return name
