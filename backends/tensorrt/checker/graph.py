"""One indexed view of an ONNX graph: who makes and reads each tensor, which are constant, their shapes and types."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]

_LARGE = 1024
"""Initialisers with more numbers than this are weights; shapes are computed from smaller ones."""

_COPIES = ("Identity", "Cast")
_CONSTANT_FIELDS = ("value_float", "value_floats", "value_int", "value_ints")


@dataclass(frozen=True, eq=False)
class Node:
    """One operator; compared by identity.

    Attributes:
        name: the file's name for it, or its first output.
        op: operator type, ``"Conv"``.
        domain: ``""`` for the standard operators.
        inputs, outputs: tensor names; ``""`` where an optional one is left out.
        attributes: values by name.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def input(self, index: int) -> str:
        """Input ``index``, ``""`` where there is none."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]


class View:
    """The graph of a model, indexed. Bodies of ``If``, ``Loop`` and ``Scan`` are not entered.

    Args:
        model: the model, its external data not loaded.
        folder: where external data lies.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path):
        graph = model.graph
        self._folder = str(folder)
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = tuple(_node(proto) for proto in graph.node)
        self.opset = next((i.version for i in model.opset_import if i.domain in ("", "ai.onnx")), 1)
        self.inputs = frozenset(i.name for i in graph.input) - self._initializers.keys()
        self.outputs = frozenset(o.name for o in graph.output)
        self._producers = {name: node for node in self.nodes for name in node.outputs if name}
        self._readers = self._index_readers()
        self._constants = self._find_constants()
        self._types = _types(model)

    def producer(self, tensor: str) -> Node | None:
        """The node that makes a tensor; ``None`` for graph inputs and initialisers."""
        return self._producers.get(tensor)

    def readers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, each once."""
        return tuple(dict.fromkeys(self._readers.get(tensor, ())))

    def uses(self, tensor: str) -> int:
        """How often a tensor is read, as a graph output included."""
        return len(self._readers.get(tensor, ())) + (tensor in self.outputs)

    def of(self, *ops: str) -> Iterator[Node]:
        """The standard operators of these types, in the file's order."""
        return (node for node in self.nodes if node.op in ops and not node.domain)

    def constant(self, tensor: str) -> bool:
        """Whether a tensor depends on no graph input."""
        return tensor in self._constants

    def initializer(self, tensor: str) -> bool:
        """Whether a tensor's numbers stand in the file as they are."""
        node = self.producer(tensor)
        return tensor in self._initializers or (node is not None and node.op == "Constant")

    def value(self, tensor: str) -> Array | None:
        """The numbers of a constant, through ``Constant``, ``Identity`` and ``Cast``; ``None`` if not known."""
        if tensor in self._initializers:
            return numpy_helper.to_array(self._initializers[tensor], base_dir=self._folder)
        node = self.producer(tensor)
        if node is None or node.op not in ("Constant", *_COPIES):
            return None
        return _constant(node) if node.op == "Constant" else self._copied(node)

    def shape(self, tensor: str) -> Shape | None:
        """Dimensions, ``None`` for each that is not fixed; ``None`` where the rank is not known."""
        if tensor in self._initializers:
            return tuple(self._initializers[tensor].dims)
        known = self._types.get(tensor)
        if known is None or not known.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in known.shape.dim)

    def dtype(self, tensor: str) -> int:
        """``TensorProto`` element type, ``UNDEFINED`` where it is not known."""
        if tensor in self._initializers:
            return int(self._initializers[tensor].data_type)
        known = self._types.get(tensor)
        return int(known.elem_type) if known is not None else int(TensorProto.UNDEFINED)

    def _copied(self, node: Node) -> Array | None:
        array = self.value(node.input(0))
        if array is None or node.op == "Identity":
            return array
        return array.astype(helper.tensor_dtype_to_np_dtype(node.attributes["to"]))

    def _index_readers(self) -> dict[str, list[Node]]:
        readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in filter(None, node.inputs):
                readers[name].append(node)
        return dict(readers)

    def _find_constants(self) -> set[str]:
        constants = set(self._initializers)
        for node in self.nodes:
            made = all(name in constants for name in node.inputs if name)
            if made and (node.inputs or node.op == "Constant"):
                constants.update(filter(None, node.outputs))
        return constants


def _node(proto: onnx.NodeProto) -> Node:
    attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
    name = proto.name or next(iter(proto.output), proto.op_type)
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    captured = _captured(attributes.values())
    return Node(name, proto.op_type, domain, (*proto.input, *captured), tuple(proto.output), attributes)


def _captured(values: Any) -> tuple[str, ...]:
    """What the body of a control-flow node may read from outside: every name that it reads."""
    bodies = [value for value in values if isinstance(value, onnx.GraphProto)]
    return tuple(dict.fromkeys(name for body in bodies for node in body.node for name in node.input if name))


def _constant(node: Node) -> Array | None:
    if "value" in node.attributes:
        return numpy_helper.to_array(node.attributes["value"])
    field = next((name for name in _CONSTANT_FIELDS if name in node.attributes), None)
    if field is None:
        return None
    return np.asarray(node.attributes[field], np.float32 if "float" in field else np.int64)


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    graph = onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=True).graph
    known = (*graph.value_info, *graph.input, *graph.output)
    return {info.name: info.type.tensor_type for info in known if info.type.HasField("tensor_type")}


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its large initialisers as inputs: inference copies what it is given several times."""
    graph, light = model.graph, onnx.ModelProto(ir_version=model.ir_version)
    given = {i.name for i in graph.input}
    large = [t for t in graph.initializer if math.prod(t.dims) > _LARGE]
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = graph.name
    light.graph.node.extend(graph.node)
    light.graph.value_info.extend(graph.value_info)
    light.graph.output.extend(graph.output)
    light.graph.initializer.extend(t for t in graph.initializer if math.prod(t.dims) <= _LARGE)
    light.graph.input.extend(graph.input)
    light.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large if t.name not in given
    )
    return light
