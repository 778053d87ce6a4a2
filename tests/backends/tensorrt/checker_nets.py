"""Small Q/DQ nets written by hand with ``onnx.helper``, clean by TensorRT's rules, in the forms of its versions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Form:
    """How a file for one version is written.

    Attributes:
        tensorrt: the version it is for.
        opset, ir: of the file.
        codes: weights as int8 codes with a dequantizer alone, rather than as floats behind a quantizer.
        half: float parts and scales in float16.
        dla: for the deep learning accelerator: every tensor has a scale, operands share theirs.
    """

    tensorrt: str
    opset: int
    ir: int
    codes: bool = False
    half: bool = False
    dla: bool = False


V82 = Form("8.2", opset=13, ir=7)
V85 = Form("8.5", opset=17, ir=8)
V103 = Form("10.3", opset=17, ir=8, codes=True)
V114 = Form("11.4", opset=19, ir=9, codes=True, half=True)
DLA = replace(V114, tensorrt="11.4.1", dla=True)
FORMS = {"8.2": V82, "8.5": V85, "10.3": V103, "11.4": V114}


class Writer:
    """Writes one net. Nodes are called ``conv1``, ``conv2``, …, and their output is called like the node."""

    def __init__(self, form: Form):
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(7)
        self._counts: dict[str, int] = {}
        self._float = np.float16 if form.half else np.float32

    def op(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; its name, which is its output's too."""
        self._counts[op] = self._counts.get(op, 0) + 1
        name = name or f"{op.lower()}{self._counts[op]}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, array: Any) -> str:
        """Add an initialiser."""
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def floats(self, name: str, array: Any) -> str:
        """Add an initialiser of the float type of this form."""
        return self.constant(name, np.asarray(array, self._float))

    def pair(self, tensor: str, scale: float = 0.0625) -> str:
        """Quantize and dequantize an activation."""
        codes = self._linear("QuantizeLinear", tensor, f"{tensor}.q", scale)
        return self._linear("DequantizeLinear", codes, f"{tensor}.dq", scale)

    def weight(self, name: str, shape: tuple[int, ...], axis: int) -> str:
        """Add a weight with one scale per channel along ``axis``."""
        scales = np.linspace(0.01, 0.02, shape[axis])
        codes = self._random.integers(-128, 128, shape, np.int8)
        broadcast = scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        if self.form.codes:
            source = self.constant(name, codes)
        else:
            self.floats(name, codes * broadcast)
            source = self._linear("QuantizeLinear", name, f"{name}.q", scales, axis=axis)
        return self._linear("DequantizeLinear", source, f"{name}.dq", scales, axis=axis)

    def conv(self, tensor: str, read: int = 16, made: int = 16, **attributes: Any) -> str:
        """A 3x3 convolution with bias, same size."""
        name = f"conv{self._counts.get('Conv', 0) + 1}"
        group = attributes.get("group", 1)
        weight = self.weight(f"{name}.weight", (made, read // group, 3, 3), 0)
        bias = self.floats(f"{name}.bias", self._random.normal(size=made))
        return self.op("Conv", tensor, weight, bias, pads=[1, 1, 1, 1], kernel_shape=[3, 3], **attributes)

    def input(self) -> str:
        """The input in the float type of this form."""
        return self.op("Cast", "x", name="x.half", to=TensorProto.FLOAT16) if self.form.half else "x"

    def first(self) -> str:
        """Input, convolution, ReLU and the pair behind them: 16 channels of 16x16."""
        return self.pair(self.op("Relu", self.conv(self.pair(self.input()), 3)))

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The finished model; outputs leave as float32."""
        if self.form.half:
            outputs = tuple(
                self.op("Cast", o, name=f"{o}.float", to=TensorProto.FLOAT) if o else o for o in outputs
            )
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
        made = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "net", [x], made, self.weights)
        opsets = [helper.make_opsetid("", self.form.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.form.ir)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        return model

    def _linear(self, op: str, tensor: str, name: str, scale: Any, **attributes: Any) -> str:
        scales = self.floats(f"{name}.scale", scale)
        zero = self.constant(f"{name}.zero", np.zeros(np.shape(scale), np.int8))
        return self.op(op, tensor, scales, zero, name=name, **attributes)


def chain(form: Form) -> onnx.ModelProto:
    """Three convolutions with ReLU, two of them squares."""
    net = Writer(form)
    middle = net.pair(net.op("Relu", net.conv(net.first())))
    return net.model(net.conv(middle))


def grouped(form: Form) -> onnx.ModelProto:
    """A convolution in four groups of four channels."""
    net = Writer(form)
    middle = net.pair(net.op("Relu", net.conv(net.first(), group=4)))
    return net.model(net.conv(middle))


def residual(form: Form) -> onnx.ModelProto:
    """A block with an identity branch, then one with a convolution on either branch."""
    net = Writer(form)
    skip = net.first()
    inner = net.conv(net.pair(net.op("Relu", net.conv(skip))))
    joined = net.pair(net.op("Relu", net.op("Add", _branch(net, inner), skip)))
    one, other = net.conv(joined), net.pair(net.conv(joined))
    last = net.pair(net.op("Relu", net.op("Add", _branch(net, one), other)))
    return net.model(net.conv(last))


def _branch(net: Writer, tensor: str) -> str:
    """What comes straight from a convolution into an addition: bare on a GPU."""
    return net.pair(tensor) if net.form.dla else tensor


def concat(form: Form) -> onnx.ModelProto:
    """Two branches of one scale joined, then read by a convolution with and by one without a pair of its own."""
    net = Writer(form)
    source = net.first()
    branches = [net.pair(net.op("Relu", net.conv(source))) for _ in range(2)]
    joined = net.op("Concat", *branches, axis=1)
    own = net.pair(joined)
    both = net.pair(net.op("Relu", net.conv(own, 32)))
    return net.model(net.conv(both) if form.dla else net.conv(joined, 32), net.conv(both))


def pool(form: Form) -> onnx.ModelProto:
    """Max pool, which passes its scale on, and an average pool with a pair on either side."""
    net = Writer(form)
    pooled = net.op("MaxPool", net.first(), kernel_shape=[2, 2], strides=[2, 2])
    inner = net.pair(net.op("Relu", net.conv(net.pair(pooled) if form.dla else pooled)))
    mean = net.op("AveragePool", inner, kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.conv(net.pair(mean)))


def linear(form: Form) -> onnx.ModelProto:
    """A head of two Gemm, with and without transposed weights, behind a global pool."""
    net = Writer(form)
    mean = net.pair(net.op("GlobalAveragePool", net.first()))
    flat = net.op("Flatten", mean, axis=1)
    one = net.op(
        "Gemm", flat, net.weight("fc1.weight", (16, 16), 0), net.floats("fc1.bias", np.ones(16)), transB=1
    )
    hidden = net.pair(net.op("Relu", one))
    two = net.op("Gemm", hidden, net.weight("fc2.weight", (16, 32), 1), net.floats("fc2.bias", np.ones(32)))
    return net.model(two)


def product(form: Form) -> onnx.ModelProto:
    """Tokens through MatMul with constant weights and a bias, and a product of two activations."""
    net = Writer(form)
    shape = net.constant("tokens", np.asarray([1, 16, 256], np.int64))
    tokens = net.op("Transpose", net.op("Reshape", net.first(), shape), perm=[0, 2, 1])
    made = net.op("MatMul", tokens, net.weight("query.weight", (16, 16), 1))
    query = net.pair(net.op("Add", made, net.floats("query.bias", np.ones(16))))
    key = net.pair(net.op("MatMul", tokens, net.weight("key.weight", (16, 16), 1)))
    return net.model(net.op("MatMul", query, net.op("Transpose", key, perm=[0, 2, 1])))


def transposed(form: Form) -> onnx.ModelProto:
    """A transposed convolution and a resize to nearest neighbours."""
    net = Writer(form)
    weight = net.weight("up.weight", (16, 16, 2, 2), 1)
    made = net.op("ConvTranspose", net.first(), weight, strides=[2, 2], kernel_shape=[2, 2])
    scales = net.constant("factors", np.asarray([1, 1, 2, 2], np.float32))
    large = net.op("Resize", net.pair(net.op("Relu", made)), "", scales, mode="nearest")
    return net.model(net.conv(net.pair(large) if form.dla else large))


def softmax(form: Form) -> onnx.ModelProto:
    """A classifier whose scores go through a softmax in float32."""
    net = Writer(form)
    flat = net.op("Flatten", net.pair(net.op("GlobalAveragePool", net.first())), axis=1)
    scores = net.op("Gemm", flat, net.weight("fc.weight", (16, 16), 0), transB=1)
    wide = net.op("Cast", scores, name="scores.float", to=TensorProto.FLOAT) if form.half else scores
    soft = net.op("Softmax", wide, axis=-1)
    return net.model(net.op("Cast", soft, name="soft.half", to=TensorProto.FLOAT16) if form.half else soft)


Build = Callable[[Form], onnx.ModelProto]
NETS: tuple[Build, ...] = (chain, grouped, residual, concat, pool, linear, product, transposed, softmax)
DLA_NETS: tuple[Build, ...] = (chain, grouped, residual, concat, pool, transposed)
