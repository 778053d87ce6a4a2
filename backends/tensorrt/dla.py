"""The files for the deep learning accelerator of Xavier and Orin with TensorRT 8.4 to 10.7, which takes no quantizers.

There a model is plain float ONNX. A calibration cache has the scale of every tensor, weights are quantized when the engine is
built, and a list names the layers that compute in float16. Source: NVIDIA's Q/DQ translator for DLA.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from torch import Tensor

from fxc.backends.onnx import emit as onnx_room
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.runtime import OrtRunner
from fxc.backends.tensorrt.dla_cache import cache_text, precisions_text
from fxc.backends.tensorrt.explicit import float_weight
from fxc.compiler.backend import Emitted
from fxc.compiler.program import Program
from fxc.compiler.quant import I8
from fxc.compiler.target import Target
from fxc.passes.quantize.qparams import qparams

PLAIN, CACHE, LAYERS = "model.dla.onnx", "model.dla.cache", "model.dla.layers.txt"

_CLIPPED = ("Relu", "Clip")
_MOVES = frozenset(
    {
        "DepthToSpace", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip
"""Operators that move values: what has a scale in front of them has it behind them too, and the other way round."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_EQUAL = ("Add", "Sub", "Mul", "Max", "Min", "Concat")
"""Operators whose operands have one scale on the accelerator."""


@dataclass(frozen=True)
class Written:
    """The files for the accelerator.

    Attributes:
        files: their names, the model's first.
        fp16: names of the layers that compute in float16.
    """

    files: tuple[str, ...]
    fp16: tuple[str, ...]
    notes: tuple[str, ...]


def write(
    program: Program, coded: Emitted, target: Target, directory: Path, table: Mapping[Any, Lowering]
) -> Written:
    """Write the plain model, its calibration cache and the list of its float16 layers into ``directory``.

    Args:
        program: quantized, shapes fixed.
        coded: the same program with quantizers, as it was written into ``directory``; tensors have the same names there.

    Raises:
        ToolchainError: ONNX Runtime is not installed, and float16 layers need it for the ranges between them.
    """
    strip = _Strip()
    plain = onnx_room.emit(program, directory / PLAIN, opset=target.opset, table=table, rewrite=strip)
    model = onnx.load(directory / PLAIN, load_external_data=False)
    floats = _float_tensors(model)
    scales = {name: strip.scales[name] for name in floats if name in strip.scales}
    spread(model.graph, scales, strip.bare)
    fp16 = tuple(float_layers(model.graph, scales, floats, strip))
    known = dict(scales)
    bare = [name for name in floats if name not in scales]
    known.update(_measured(directory / coded.model, bare, dict(zip(coded.inputs, program.example_inputs))))
    (directory / CACHE).write_text(cache_text(known, target.options["oldest"]), encoding="utf-8")
    (directory / LAYERS).write_text(precisions_text(fp16), encoding="utf-8")
    return Written((*plain.files, CACHE, LAYERS), fp16, strip.notes)


@dataclass
class _Strip:
    """Takes the quantizers out of a graph, and keeps what they said.

    Attributes:
        scales: of the tensors that they stood behind, by name.
        weights: names of initialisers that were codes.
        bare: names of nodes that read, or make, a tensor as it is of which others read codes.
        notes: about tensors that had more than one scale.
    """

    scales: dict[str, float] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)
    notes: tuple[str, ...] = ()

    def __call__(self, graph: gs.Graph) -> None:
        """quantize -> dequantize -> layer    ->    layer"""
        for tensor in [node.inputs[0] for node in graph.nodes if node.op == "QuantizeLinear"]:
            readers = [reader for reader in tensor.outputs if reader.op != "QuantizeLinear"]
            if readers or any(tensor is output for output in graph.outputs):
                self.bare.update(node.name for node in (*readers, *tensor.inputs))
        for node in [node for node in graph.nodes if node.op == "DequantizeLinear"]:
            if isinstance(node.inputs[0], gs.Constant):
                self._weight(node)
            else:
                self._activation(graph, node)
        graph.cleanup().toposort()

    def _weight(self, node: gs.Node) -> None:
        values = float_weight(node)
        self.weights.add(values.name)
        _read_instead(node.outputs[0], values)

    def _activation(self, graph: gs.Graph, node: gs.Node) -> None:
        (quantizer,) = node.inputs[0].inputs
        source, result = quantizer.inputs[0], node.outputs[0]
        scale = float(quantizer.inputs[1].values)
        _read_instead(result, source)
        if any(result is output for output in graph.outputs):
            source = self._as_output(graph, node, source)
        self._say(source.name, scale)
        node.outputs = []

    def _as_output(self, graph: gs.Graph, node: gs.Node, source: gs.Tensor) -> gs.Tensor:
        """A tensor under the name of the graph's output that it is now."""
        result = node.outputs[0]
        node.outputs = []
        inner = source.inputs and not any(source is output for output in graph.outputs)
        if not inner:
            self.scales[result.name] = float(node.inputs[1].values)
            graph.nodes.append(gs.Node("Identity", f"{result.name}/copy", {}, [source], [result]))
            return source
        graph.outputs = [source if output is result else output for output in graph.outputs]
        if source.name in self.scales:
            self.scales[result.name] = self.scales.pop(source.name)
        source.name = result.name
        return source

    def _say(self, name: str, scale: float) -> None:
        known = self.scales.get(name, scale)
        if known != scale:
            text = f"{name} has two scales, {known:.4g} and {scale:.4g}; the cache holds the larger one"
            self.notes = (*self.notes, text)
        self.scales[name] = max(known, scale)


def _read_instead(old: gs.Tensor, new: gs.Tensor) -> None:
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]


def _float_tensors(model: onnx.ModelProto) -> dict[str, None]:
    """Names of the float32 tensors that are computed or given, in the file's order."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    floats = {v.name for v in infos if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    names = (*(v.name for v in graph.input), *(name for node in graph.node for name in node.output))
    return {name: None for name in names if name in floats}


def spread(graph: onnx.GraphProto, scales: dict[str, float], bare: Collection[str]) -> None:
    """Give a scale to the tensors inside an operator of the model that became several nodes.

    Backward through what moves or clips values and has them alone, then forward through what moves them, unless it is one of
    the ``bare`` nodes: their values are not coded.
    """
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    inner = readers.keys() - {weight.name for weight in graph.initializer}
    for node in reversed(graph.node):
        source = node.input[0] if node.input and node.name not in bare else ""
        if node.op_type in (*_MOVES, *_CLIPPED) and source in inner and readers[source] == 1:
            _copy(scales, node.output[0], source)
    for node in graph.node:
        if node.op_type in _MOVES and node.name not in bare:
            for name in node.output:
                _copy(scales, node.input[0], name)


def _copy(scales: dict[str, float], source: str, to: str) -> None:
    if source in scales and to not in scales:
        scales[to] = scales[source]


def float_layers(
    graph: onnx.GraphProto, scales: Mapping[str, float], floats: Iterable[str], strip: _Strip
) -> Iterable[str]:
    """Names of nodes that compute in float16: they touch a tensor without a scale, or what the accelerator cannot use."""
    known, constant = set(floats), {weight.name for weight in graph.initializer}
    for node in graph.node:
        tensors = [name for name in (*node.input, *node.output) if name in known]
        operands = [scales.get(name) for name in node.input if name in known]
        uncoded = node.name in strip.bare or any(name not in scales for name in tensors)
        unweighted = node.op_type in _WEIGHTED and node.input[1] not in strip.weights
        unequal = node.op_type in _EQUAL and (len(set(operands)) > 1 or constant & set(node.input))
        if tensors and (uncoded or unweighted or unequal):
            yield node.name


def _measured(model: Path, names: list[str], inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Scales of tensors between float16 layers, from the example inputs; TensorRT reads them only if it runs a layer otherwise."""
    values = {name: x.detach().cpu().numpy() for name, x in inputs.items()}
    inner = tuple(name for name in names if name not in values)
    if inner:
        outputs = OrtRunner(model, threads=1, expose=inner, integer=False)(list(values.values()))
        values.update(zip(inner, outputs[-len(inner) :]))
    return {name: _scale(values[name]) for name in names}


def _scale(values: np.ndarray[Any, Any]) -> float:
    finite = values[np.isfinite(values)]
    return qparams(float(finite.min(initial=0.0)), float(finite.max(initial=0.0)), I8).scale
