"""Layer by layer: an emitted Q/DQ file against the quantized graph, every layer on the graph's own inputs.

Through a whole network a difference of one code is amplified by everything behind it. So the file is cut at every
QuantizeLinear: the layers behind it read the codes that the graph computed, not the ones that the file did, and each
layer's own codes are compared. One session runs all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper

from fxc.compiler.program import Program
from fxc.compiler.qdq import QUANTIZE_TENSOR
from fxc.compiler.record import record


@dataclass(frozen=True)
class LayerDifference:
    """Codes of one tensor, file against graph.

    Attributes:
        tensor: name in the file.
        worst: largest difference in codes.
        flips: share of codes that differ.
    """

    tensor: str
    worst: int
    flips: float


def cut(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model with every activation QuantizeLinear's output cut: what reads it becomes an input ``<name>::in``."""
    initializers = {i.name for i in model.graph.initializer}
    codes = {
        n.output[0]: n
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] not in initializers
    }
    zero_types = {i.name: i.data_type for i in model.graph.initializer}
    cut_model = onnx.ModelProto()
    cut_model.CopyFrom(model)
    graph = cut_model.graph
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in codes:
                node.input[i] = f"{name}::in"
    del graph.output[:]
    for name, node in codes.items():
        kind = zero_types[node.input[2]]
        graph.input.append(helper.make_tensor_value_info(f"{name}::in", kind, None))
        graph.output.append(helper.make_tensor_value_info(name, kind, None))
    del graph.value_info[:]
    return cut_model, list(codes)


def compare(
    path: Path, program: Program, inputs: tuple[torch.Tensor, ...], tensors: dict[str, str]
) -> list[LayerDifference]:
    """Every quantized tensor of the file at ``path`` against ``program``.

    Args:
        inputs: flat inputs of the program.
        tensors: label of a program node to the name of its tensor in the file.
    """
    from fxc.compiler.origin import label_of

    model, names = cut(onnx.load(path))
    node_of = {tensors[label_of(n)]: n.name for n in program.graph.nodes if n.target is QUANTIZE_TENSOR}
    values = record(program, node_of.values(), inputs)
    codes = {name: values[node_of[name]].numpy() for name in names}
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs)}
    wanted = {i.name for i in session.get_inputs()}
    feed.update({f"{name}::in": value for name, value in codes.items() if f"{name}::in" in wanted})
    results = session.run(names, feed)
    return [_difference(name, codes[name], np.asarray(got)) for name, got in zip(names, results)]


def _difference(name: str, want: np.ndarray, got: np.ndarray) -> LayerDifference:
    assert want.shape == got.shape, f"{name}: shape {got.shape}, the graph has {want.shape}"
    gap = np.abs(want.astype(np.int64) - got.astype(np.int64))
    return LayerDifference(name, int(gap.max(initial=0)), float((gap > 0).mean()))
