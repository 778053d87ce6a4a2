"""Single changes to a model that make it break one rule."""

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper


def node(model: ModelProto, name: str) -> NodeProto:
    """The node of this name."""
    return next(n for n in model.graph.node if n.name == name)


def put(model: ModelProto, name: str, array: Any) -> None:
    """Give an initialiser other numbers, or add it."""
    kept = [t for t in model.graph.initializer if t.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(array), name)])


def wire(model: ModelProto, reader: str, index: int, tensor: str) -> None:
    """Let a node read another tensor."""
    target = node(model, reader)
    while len(target.input) <= index:
        target.input.append("")
    target.input[index] = tensor


def attribute(model: ModelProto, name: str, **values: Any) -> None:
    """Set attributes of a node; ``None`` takes one away."""
    target = node(model, name)
    kept = [a for a in target.attribute if a.name not in values]
    del target.attribute[:]
    new = [helper.make_attribute(key, value) for key, value in values.items() if value is not None]
    target.attribute.extend([*kept, *new])


def add(model: ModelProto, before: str, op: str, inputs: list[str], name: str, **attributes: Any) -> None:
    """Write a node in front of another, or at the end (``""``); its output is called like it."""
    names = [n.name for n in model.graph.node]
    domain = attributes.pop("domain", None)
    made = helper.make_node(op, inputs, [name], name, domain=domain, **attributes)
    model.graph.node.insert(names.index(before) if before else len(names), made)


def insert(model: ModelProto, tensor: str, reader: str, op: str, *more: str, **attributes: Any) -> None:
    """Put an operator between a tensor and one of its readers; the node is called ``new``."""
    add(model, reader, op, [tensor, *more], "new", **attributes)
    wire(model, reader, list(node(model, reader).input).index(tensor), "new")


def insert_pair(model: ModelProto, tensor: str, reader: str, scale: float = 0.0625) -> None:
    """Put a pair, ``new.q`` and ``new.dq``, between a tensor and one of its readers."""
    put(model, "new.scale", np.float32(scale))
    put(model, "new.zero", np.int8(0))
    add(model, reader, "QuantizeLinear", [tensor, "new.scale", "new.zero"], "new.q")
    add(model, reader, "DequantizeLinear", ["new.q", "new.scale", "new.zero"], "new.dq")
    wire(model, reader, list(node(model, reader).input).index(tensor), "new.dq")


def drop_pair(model: ModelProto, tensor: str) -> None:
    """Take the pair behind a tensor away."""
    for reader in model.graph.node:
        for index, name in enumerate(reader.input):
            if name == f"{tensor}.dq":
                reader.input[index] = tensor
    for name in (f"{tensor}.q", f"{tensor}.dq"):
        model.graph.node.remove(node(model, name))


def rescale(model: ModelProto, tensor: str, scale: float) -> None:
    """Give the pair behind a tensor another scale."""
    for name in (f"{tensor}.q.scale", f"{tensor}.dq.scale"):
        old = next(t for t in model.graph.initializer if t.name == name)
        put(model, name, np.asarray(scale, numpy_helper.to_array(old).dtype))


def become_input(model: ModelProto, name: str) -> None:
    """Turn an initialiser into an input of the graph."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    model.graph.initializer.remove(tensor)
    model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))


def output(model: ModelProto, tensor: str, dtype: int = TensorProto.FLOAT) -> None:
    """Let a tensor leave the network."""
    model.graph.output.append(helper.make_tensor_value_info(tensor, dtype, None))


def channels(model: ModelProto, name: str, shape: tuple[int, ...], axis: int = 0) -> None:
    """Give the weight codes ``name`` another shape, and scales, zero points and bias that fit it."""
    put(model, name, np.ones(shape, np.int8))
    dtype = np.float16 if model.opset_import[0].version >= 19 else np.float32
    put(model, f"{name}.dq.scale", np.full(shape[axis], 0.015, dtype))
    put(model, f"{name}.dq.zero", np.zeros(shape[axis], np.int8))
    put(model, f"{name.split('.')[0]}.bias", np.zeros(shape[axis], dtype))


def opset(model: ModelProto, version: int) -> None:
    """Declare another opset."""
    model.opset_import[0].version = version


def resize_input(model: ModelProto, batch: int | str) -> None:
    """Give the graph's input another batch, a name for a dynamic one."""
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(batch, str):
        dim.dim_param = batch
    else:
        dim.dim_value = batch


def batch_norm(model: ModelProto, tensor: str, reader: str) -> None:
    """Put a batch norm, called ``new``, between a tensor and its reader."""
    for name, value in {"gamma": 1.5, "beta": 0.1, "mean": 0.2, "var": 2.0}.items():
        put(model, name, np.full(16, value, np.float32))
    insert(model, tensor, reader, "BatchNormalization", "gamma", "beta", "mean", "var")
