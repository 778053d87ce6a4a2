"""The graph for TensorRT 11, which computes in the types that the file names: float16 beside int8, reductions in float32.

Source: TensorRT migration guide 10.x to 11.x (strongly typed networks); ONNX operators of opset 19, the first in which a
quantizer takes float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fxc.backends.tensorrt.overflow import CODES, too_wide

FLOAT32 = frozenset(
    {
        "Celu", "CumSum", "Exp", "GroupNormalization", "InstanceNormalization", "IsInf", "LayerNormalization", "Log", "LogSoftmax",
        "LpNormalization", "MeanVarianceNormalization", "Pow", "Range", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
        "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reciprocal", "Softmax", "Sqrt",
    }
)  # fmt: skip
"""Operators that sum many values, whose values leave float16's range first, or that ONNX has in float32 only."""

_ALWAYS: Mapping[str, frozenset[int]] = MappingProxyType({"Resize": frozenset({1, 2})})
"""Inputs that ONNX declares as float32 whatever the data is."""

_LARGEST = float(np.finfo(np.float16).max)
_SMALL = 1 << 16
_ROUNDING = 2.0**-8
"""Relative: half a code of the largest that a scale makes."""
_LEAST = float(np.finfo(np.float16).smallest_subnormal)


def to_half(graph: gs.Graph) -> tuple[str, ...]:
    """Rewrite a float32 graph in place: float16 between its inputs and outputs, which stay float32.

    Returns:
        Sentences about activations that float16 holds badly.
    """
    graph.toposort()
    _name_types(graph)
    half = _Half(too_wide(graph))
    graph.toposort()
    notes: list[str] = []
    for node in list(graph.nodes):
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            notes.extend(_paired_scale(node) if half.is_wide(node) else _narrow_scale(node))
        half.inputs(node)
        half.outputs(node)
    half.results(graph)
    graph.nodes.extend(half.casts)
    graph.cleanup().toposort()
    return tuple(notes)


def _name_types(graph: gs.Graph) -> None:
    """Fill in the types of tensors inside an operator that became several nodes."""
    model = gs.export_onnx(graph, do_type_check=False)
    kept = [weight for weight in model.graph.initializer if weight.ByteSize() <= _SMALL]
    # Of the others the type is enough, and a message has its limits.
    for weight in model.graph.initializer:
        if weight.ByteSize() > _SMALL:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
            )
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for tensor in graph.tensors().values():
        if tensor.dtype is None:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(types[tensor.name])


class _Half:
    """Types so far: a tensor that is float32 in the old graph is float16 in the new one, casts made where it is read otherwise."""

    def __init__(self, wide: set[int]) -> None:
        self.casts: list[gs.Node] = []
        self._nodes = wide
        self._of: dict[tuple[str, str], gs.Tensor] = {}

    def is_wide(self, node: gs.Node) -> bool:
        """Whether a node computes in float32."""
        return node.op in FLOAT32 or id(node) in self._nodes

    def inputs(self, node: gs.Node) -> None:
        for index, tensor in enumerate(node.inputs):
            if not (_is_single(tensor) or self._is_half(tensor)) or index in _ALWAYS.get(node.op, ()):
                continue
            node.inputs[index] = self._wide(tensor) if self.is_wide(node) else self._narrow(tensor)

    def outputs(self, node: gs.Node) -> None:
        for index, tensor in enumerate(node.outputs):
            if not _is_single(tensor):
                continue
            if self.is_wide(node):
                wide = gs.Variable(f"{tensor.name}.f32", np.float32, tensor.shape)
                node.outputs[index] = self._of[tensor.name, "wide"] = wide
                self.casts.append(_cast(wide, tensor, np.float16))
            tensor.dtype = np.dtype(np.float16)
            self._of[tensor.name, "half"] = tensor
        if node.op == "Cast" and node.attrs["to"] in (np.float32, onnx.TensorProto.FLOAT):
            node.attrs["to"] = np.float16
        if node.op == "ConstantOfShape" and (value := node.attrs.get("value")) is not None:
            _narrow_attribute(node, value)

    def results(self, graph: gs.Graph) -> None:
        """The graph's outputs in float32 under their own names."""
        for tensor in graph.outputs:
            if self._is_half(tensor):
                inner = gs.Variable(f"{tensor.name}.f16", np.float16, tensor.shape)
                wide = self._of.get((tensor.name, "wide"))
                for node in (*graph.nodes, *self.casts):
                    node.outputs = [
                        inner if o is tensor else tensor if o is wide else o for o in node.outputs
                    ]
                    node.inputs = [inner if i is tensor else tensor if i is wide else i for i in node.inputs]
                tensor.dtype = np.dtype(np.float32)
                if wide is None:
                    self.casts.append(_cast(inner, tensor, np.float32))

    def _is_half(self, tensor: gs.Tensor) -> bool:
        return (tensor.name, "half") in self._of

    def _narrow(self, tensor: gs.Tensor) -> gs.Tensor:
        if self._is_half(tensor):
            return tensor
        return self._once(tensor, "narrow", np.float16)

    def _wide(self, tensor: gs.Tensor) -> gs.Tensor:
        return self._once(tensor, "wide", np.float32) if self._is_half(tensor) else tensor

    def _once(self, tensor: gs.Tensor, kind: str, dtype: type) -> gs.Tensor:
        key = (tensor.name, kind)
        if key not in self._of:
            self._of[key] = self._converted(tensor, dtype)
        return self._of[key]

    def _converted(self, tensor: gs.Tensor, dtype: type) -> gs.Tensor:
        name = f"{tensor.name}.{'f16' if dtype is np.float16 else 'f32'}"
        if isinstance(tensor, gs.Constant):
            return gs.Constant(name, np.asarray(np.clip(tensor.values, -_LARGEST, _LARGEST), dtype))
        made = gs.Variable(name, dtype, tensor.shape)
        self.casts.append(_cast(tensor, made, dtype))
        return made


def _is_single(tensor: gs.Tensor) -> bool:
    return tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32


def _cast(source: gs.Tensor, made: gs.Tensor, dtype: type) -> gs.Node:
    return gs.Node("Cast", f"{made.name}/cast.{np.dtype(dtype).name}", {"to": dtype}, [source], [made])


def _narrow_attribute(node: gs.Node, value: gs.Tensor) -> None:
    if value.values.dtype == np.float32:
        node.attrs["value"] = gs.Constant(value.name, value.values.astype(np.float16))


def _paired_scale(node: gs.Node) -> tuple[str, ...]:
    """A scale that stays float32, of activations, as the number that a partner in float16 has."""
    scale, codes = node.inputs[1], node.inputs[0]
    if not isinstance(codes, gs.Constant) and np.max(scale.values) * CODES <= _LARGEST:
        half = np.asarray(np.maximum(scale.values, _LEAST), np.float16)
        node.inputs[1] = gs.Constant(f"{scale.name}.{node.name}.f32", half.astype(np.float32))
    return ()


def _narrow_scale(node: gs.Node) -> Iterator[str]:
    """The scale of a quantizer or dequantizer in float16, codes of weights adapted to what became of it.

    Yields:
        A sentence where the values themselves are below what float16 holds.
    """
    scale, codes = node.inputs[1], node.inputs[0]
    half = np.asarray(np.maximum(scale.values, _LEAST), np.float16)
    error = np.abs(half.astype(np.float32) / scale.values - 1)
    if isinstance(codes, gs.Constant):
        # Codes are clipped where a scale is too small, and only coarser where it is too large.
        short = (error > _ROUNDING) & (half < scale.values)
        half = np.where(short, np.nextafter(half, np.float16(np.inf)), half)
        node.inputs[0] = _recoded(node, codes, scale.values / half.astype(np.float32), error > _ROUNDING)
    elif node.op == "DequantizeLinear" and np.max(error) > _ROUNDING:
        yield f"{node.name}: float16 holds a scale of {np.min(scale.values):.2g} to {np.max(error):.1%} only"
    node.inputs[1] = gs.Constant(f"{scale.name}.{node.name}.f16", half)


def _recoded(node: gs.Node, codes: gs.Constant, ratio: np.ndarray, where: np.ndarray) -> gs.Constant:
    """Codes for other scales, in the channels in which the scale's own rounding would be felt."""
    if not np.any(where):
        return codes
    shape = [1] * codes.values.ndim
    if np.ndim(ratio):
        shape[int(node.attrs.get("axis", 1))] = -1
    factors = np.where(where, ratio, 1.0).reshape(shape)
    values = np.clip(np.round(codes.values * factors), -127, 127).astype(np.int8)
    return gs.Constant(f"{codes.name}.f16", values)
