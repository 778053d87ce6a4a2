"""A net for the deep learning accelerator, and what its plain file, cache and list of layers mean, built from these alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

PLAIN, CACHE, LAYERS = "model.dla.onnx", "model.dla.cache", "model.dla.layers.txt"


class Native(nn.Module):
    """What the accelerator has: convolutions, residual sums, pools, a concat, an upsampling, activations, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.left = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.right = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(16, 16, 1))
        self.up, self.head = nn.ConvTranspose2d(16, 16, 2, 2), nn.Linear(16, 10)
        self.map = nn.Conv2d(32, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        x = torch.relu(self.left(x) + x)
        x = self.right(x) + x * 1.0
        wide = torch.cat([self.up(x), F.interpolate(x, scale_factor=2.0)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)), self.map(wide).sigmoid()


class Mixed(Native):
    """The same with what goes to the GPU: a gate, a SiLU, a normalization over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.norm = nn.Conv2d(16, 16, 1), nn.GroupNorm(4, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.silu(self.stem(x))
        x = x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        x = self.norm(self.left(x) + x)
        wide = torch.cat([self.up(x), F.interpolate(x, scale_factor=2.0)], 1)
        return self.head(x.mean((2, 3))), self.map(wide)


class Channels(nn.Module):
    """A normalization over channels last: what it makes is moved, then read by a convolution, by a float sum, and returned."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.mix, self.down = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 8, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = x + F.gelu(self.mix(x))
        return self.down(y), y


def alive(net: nn.Module, x: Tensor) -> nn.Module:
    """``net`` in eval mode, its batch norms those of the data."""
    net(x)
    return net.eval()


def scales(folder: Path) -> dict[str, float]:
    """The cache, read by its format alone: a head, then ``name: <float32 in hexadecimal, most significant digit first>``."""
    head, *lines = (folder / CACHE).read_text(encoding="ascii").splitlines()
    assert head.startswith("TRT-")
    assert head.endswith("-EntropyCalibration2")
    return {line[:-10]: struct.unpack("!f", bytes.fromhex(line[-8:]))[0] for line in lines}


def float16_layers(folder: Path) -> set[str]:
    """Names in the list of layers' precisions."""
    text = (folder / LAYERS).read_text(encoding="ascii")
    return {entry.removesuffix(":fp16") for entry in text.split(",") if entry}


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Every float32 tensor that is given or computed."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {v.name for v in infos if v.type.tensor_type.elem_type == TensorProto.FLOAT}


def meant(folder: Path) -> onnx.ModelProto:
    """What TensorRT makes of the three files, as a file with quantizers: a tensor is coded where an int8 layer touches it, but
    not on the way from one float16 layer to another, and the weights of int8 layers are, per output channel, by their largest
    magnitude."""
    model = onnx.load(folder / PLAIN)
    graph, known, half = model.graph, scales(folder), float16_layers(folder)
    floats = float_tensors(model)
    integer = [node for node in graph.node if node.name not in half]
    coded = {name for node in integer for name in (*node.input, *node.output) if name in floats}
    exact = {name for node in graph.node if node.name in half for name in node.output}
    outputs = {output.name for output in graph.output} - exact
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in coded and not (node.name in half and name in exact):
                node.input[index] = f"{name}.coded"
        for index, name in enumerate(node.output):
            if name in coded & outputs:
                node.output[index] = f"{name}.inner"
    for name in sorted(coded):
        source, result = (f"{name}.inner", name) if name in outputs else (name, f"{name}.coded")
        made += _pair(graph, source, result, np.float32(known[name]))
        if name in outputs:
            made.append(helper.make_node("Identity", [name], [f"{name}.coded"]))
    for node in integer:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
            _quantize_weight(graph, node)
    del model.graph.value_info[:]
    nodes = _sorted([*graph.node, *made], {i.name for i in (*graph.input, *graph.initializer)} | {""})
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _pair(graph: onnx.GraphProto, source: str, result: str, scale: np.float32) -> list[onnx.NodeProto]:
    numbers = [f"{source}.s", f"{source}.z"]
    graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), numbers[0]))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), numbers[1]))
    codes = f"{source}.codes"
    return [
        helper.make_node("QuantizeLinear", [source, *numbers], [codes]),
        helper.make_node("DequantizeLinear", [codes, *numbers], [result]),
    ]


def _quantize_weight(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    weight = next(i for i in graph.initializer if i.name == node.input[1])
    values, axis = numpy_helper.to_array(weight), 1 if node.op_type == "ConvTranspose" else 0
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True) / np.float32(127), 1e-12)
    weight.CopyFrom(numpy_helper.from_array(np.float32(np.rint(values / scale) * scale), weight.name))


def _sorted(nodes: list[onnx.NodeProto], ready: set[str]) -> list[onnx.NodeProto]:
    ordered: list[onnx.NodeProto] = []
    while nodes:
        free = [node for node in nodes if ready.issuperset(node.input)]
        assert free, [node.name for node in nodes]
        ordered += free
        ready.update(name for node in free for name in node.output)
        nodes = [node for node in nodes if not ready.issuperset(node.output)]
    return ordered
