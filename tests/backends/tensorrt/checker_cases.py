"""Files that break one rule of TensorRT each: a clean net, one change, and the rule and the nodes it is found at."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, TensorProto, helper

from tests.backends.tensorrt import checker_edits as edit
from tests.backends.tensorrt.checker_nets import (
    DLA,
    V85,
    V103,
    V114,
    Build,
    Form,
    Writer,
    chain,
    concat,
    grouped,
    linear,
    pool,
    product,
    residual,
    softmax,
    transposed,
)

Edit = Callable[[ModelProto], None]
CHANNEL_SCALES = np.full(16, 0.0625, np.float32)


@dataclass(frozen=True)
class Case:
    """One planted violation.

    Attributes:
        rule: the id that it must be found under, and no other.
        build, form: the clean net.
        edit: the change.
        at: names of the nodes it must be found at, ``""`` for the file.
    """

    rule: str
    build: Build
    form: Form
    edit: Edit
    at: tuple[str, ...]


def on(form: Form, tensorrt: str, *, dla: bool = False) -> Form:
    """The same file for another version, or for the accelerator."""
    return replace(form, tensorrt=tensorrt, dla=dla)


def small(form: Form) -> ModelProto:
    """One convolution, without pairs."""
    net = Writer(replace(form, half=False))
    return net.model(net.op("Conv", "x", net.floats("weight", np.ones((16, 3, 3, 3)))))


def nothing(model: ModelProto) -> None:
    """The file stays as it is; what builds it is another."""


def channel_activation(model: ModelProto) -> None:
    for name in ("relu1.q", "relu1.dq"):
        edit.put(model, f"{name}.scale", CHANNEL_SCALES)
        edit.put(model, f"{name}.zero", np.zeros(16, np.int8))
        edit.attribute(model, name, axis=1)


def codes_read(model: ModelProto) -> None:
    edit.add(model, "", "Cast", ["relu1.q"], "new", to=TensorProto.FLOAT)
    edit.output(model, "new")


def clip(model: ModelProto) -> None:
    edit.put(model, "low", np.int8(-127))
    edit.put(model, "high", np.int8(127))
    edit.insert(model, "relu1.q", "relu1.dq", "Clip", "low", "high")


def dynamic_quantize(model: ModelProto) -> None:
    edit.add(model, "", "DynamicQuantizeLinear", ["conv3"], "new")
    edit.node(model, "new").output.extend(["new.scale", "new.zero"])
    edit.output(model, "new", TensorProto.UINT8)


def foreign(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    edit.add(model, "", "Gelu", ["conv3"], "new", domain="com.microsoft")
    edit.output(model, "new")


def integer_bias(model: ModelProto) -> None:
    edit.put(model, "codes", np.arange(16, dtype=np.int32))
    edit.put(model, "steps", np.full(16, 0.001, np.float32))
    edit.add(model, "conv2", "DequantizeLinear", ["codes", "steps"], "new", axis=0)
    edit.wire(model, "conv2", 2, "new")


def norm_behind_pair(model: ModelProto) -> None:
    edit.batch_norm(model, "conv2", "relu2")
    edit.insert_pair(model, "conv2", "new")


def quantized_twice(model: ModelProto) -> None:
    edit.insert(model, "relu1.q", "relu1.dq", "QuantizeLinear", "relu1.q.scale", "relu1.q.zero")


def dequantized_twice(model: ModelProto) -> None:
    edit.insert(model, "relu1.dq", "conv2", "DequantizeLinear", "relu1.dq.scale", "relu1.dq.zero")


def more_groups(groups: int) -> Edit:
    def change(model: ModelProto) -> None:
        edit.put(model, "conv2.weight", np.ones((16, 16 // groups, 3, 3), np.int8))
        edit.attribute(model, "conv2", group=groups)

    return change


def half_norm(model: ModelProto) -> None:
    edit.put(model, "gamma", np.ones(16, np.float16))
    edit.insert(model, "conv3", "conv3.float", "LayerNormalization", "gamma")


def global_pool(model: ModelProto) -> None:
    edit.node(model, "averagepool1").op_type = "GlobalAveragePool"
    edit.attribute(model, "averagepool1", kernel_shape=None, strides=None)


def grouped_deconvolution(model: ModelProto) -> None:
    edit.put(model, "up.weight", np.ones((16, 8, 2, 2), np.int8))
    edit.put(model, "up.weight.dq.scale", np.full(8, 0.015, np.float16))
    edit.put(model, "up.weight.dq.zero", np.zeros(8, np.int8))
    edit.attribute(model, "convtranspose1", group=2)


def self_product(model: ModelProto) -> None:
    edit.add(model, "", "MatMul", ["relu2.dq", "relu2.dq"], "new")
    edit.output(model, "new", TensorProto.FLOAT16)


FILE = (
    Case("opset-range", chain, V85, lambda m: edit.opset(m, 19), ("",)),
    Case("opset-range", chain, on(V85, "8.2"), nothing, ("",)),
    Case("opset-range", chain, on(V103, "10.3"), lambda m: edit.opset(m, 21), ("",)),
    Case("not-parsed", chain, V85, dynamic_quantize, ("new",)),
    Case("not-parsed", chain, V103, foreign, ("new",)),
)

QUANTIZERS = (
    Case("zero-point-value", chain, V85, lambda m: edit.put(m, "relu1.q.zero", np.int8(1)), ("relu1.q",)),
    Case(
        "zero-point-value",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.zero", np.eye(1, 16, 3, np.int8)[0]),
        ("conv2.weight.dq",),
    ),
    Case("zero-point-constant", chain, V85, lambda m: edit.become_input(m, "relu1.q.zero"), ("relu1.q",)),
    Case("zero-point-missing", chain, V85, lambda m: edit.node(m, "relu1.dq").input.pop(), ("relu1.dq",)),
    Case(
        "code-type", chain, V85, lambda m: edit.put(m, "relu1.q.zero", np.uint8(0)), ("relu1.q", "relu1.dq")
    ),
    Case("code-type", chain, V103, lambda m: edit.node(m, "relu1.q").input.pop(), ("relu1.q", "relu1.dq")),
    Case("scale-constant", chain, V85, lambda m: edit.become_input(m, "relu1.dq.scale"), ("relu1.dq",)),
    Case(
        "scale-value",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.scale", -CHANNEL_SCALES),
        ("conv2.weight.dq",),
    ),
    Case(
        "scale-value",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.scale", CHANNEL_SCALES * np.inf),
        ("conv2.weight.dq",),
    ),
    Case(
        "scale-type",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.scale", CHANNEL_SCALES.astype(np.float16)),
        ("conv2.weight.dq",),
    ),
    Case(
        "scale-shape",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.scale", CHANNEL_SCALES[:15]),
        ("conv2.weight.dq",),
    ),
    Case(
        "scale-shape",
        chain,
        V103,
        lambda m: edit.put(m, "conv2.weight.dq.zero", np.int8(0)),
        ("conv2.weight.dq",),
    ),
    Case(
        "half-input",
        chain,
        V103,
        lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.FLOAT16),
        ("x.q",),
    ),
    Case(
        "axis-missing",
        chain,
        V103,
        lambda m: edit.attribute(m, "conv2.weight.dq", axis=None),
        ("conv2.weight.dq",),
    ),
    Case("activation-per-channel", chain, V85, channel_activation, ("relu1.q", "relu1.dq")),
    Case("pair-scale", chain, V85, lambda m: edit.put(m, "relu1.dq.scale", np.float32(0.05)), ("relu1.dq",)),
    Case(
        "pair-scale", chain, V85, lambda m: edit.attribute(m, "conv2.weight.q", axis=1), ("conv2.weight.dq",)
    ),
)

CODES = (
    Case("quantized-codes", chain, V85, quantized_twice, ("new",)),
    Case("dequantized-floats", chain, V85, dequantized_twice, ("new",)),
    Case("clipped-codes", chain, V85, clip, ("new",)),
    Case("read-codes", chain, V85, codes_read, ("new",)),
    Case("output-codes", chain, V85, lambda m: edit.output(m, "relu1.q", TensorProto.INT8), ("relu1.q",)),
)

WEIGHTS = (
    Case("weight-axis", chain, V103, lambda m: edit.attribute(m, "conv2.weight.dq", axis=1), ("conv2",)),
    Case(
        "weight-axis",
        transposed,
        V103,
        lambda m: edit.attribute(m, "up.weight.dq", axis=0),
        ("convtranspose1",),
    ),
    Case("weight-axis", linear, V103, lambda m: edit.attribute(m, "fc1.weight.dq", axis=1), ("gemm1",)),
    Case("weight-axis", linear, V103, lambda m: edit.attribute(m, "gemm1", transB=0), ("gemm1",)),
    Case("weight-axis", product, V114, lambda m: edit.attribute(m, "query.weight.dq", axis=0), ("matmul1",)),
    Case(
        "weight-codes",
        chain,
        on(V103, "8.5"),
        nothing,
        ("conv1.weight.dq", "conv2.weight.dq", "conv3.weight.dq"),
    ),
    Case("bias-codes", chain, V103, integer_bias, ("new",)),
    Case("weight-only", chain, V103, lambda m: edit.drop_pair(m, "relu1"), ("conv2",)),
    Case("input-only", chain, V85, lambda m: edit.wire(m, "conv2", 1, "conv2.weight"), ("conv2",)),
    Case("operand-float", product, V85, lambda m: edit.drop_pair(m, "matmul2"), ("matmul3",)),
)

PLACEMENT = (
    Case("before-activation", chain, V85, lambda m: edit.insert_pair(m, "conv2", "relu2"), ("relu2",)),
    Case("before-batch-norm", chain, V103, norm_behind_pair, ("new",)),
    Case("batch-norm-left", chain, V103, lambda m: edit.batch_norm(m, "conv2", "relu2"), ("new",)),
    Case("partial-inputs", residual, V103, lambda m: edit.insert(m, "conv3", "add1", "Sigmoid"), ("add1",)),
    Case("missing-quantizer", pool, V103, lambda m: edit.output(m, "averagepool1"), ("averagepool1",)),
    Case("residual-both", residual, V85, lambda m: edit.insert_pair(m, "conv3", "add1"), ("add1",)),
    Case("residual-float", residual, V85, lambda m: edit.drop_pair(m, "conv5"), ("add2",)),
    Case("residual-float", residual, V103, lambda m: edit.wire(m, "add1", 1, "relu1"), ("add1",)),
    Case("moving-scale", pool, V103, lambda m: edit.insert_pair(m, "maxpool1", "conv2", 0.05), ("new.q",)),
    Case("moving-scale", linear, V103, lambda m: edit.insert_pair(m, "flatten1", "gemm1", 0.05), ("new.q",)),
    Case("moving-scale", chain, V103, lambda m: edit.insert_pair(m, "relu1.dq", "conv2", 0.05), ("new.q",)),
    Case("concat-scales", concat, V103, lambda m: edit.rescale(m, "relu2", 0.05), ("concat1",)),
    Case("concat-scales", concat, V114, lambda m: edit.rescale(m, "concat1", 0.05), ("concat1",)),
    Case("unused-pair", softmax, V85, lambda m: edit.insert_pair(m, "gemm1", "softmax1"), ("new.dq",)),
)

WIDTHS = (
    Case("group-alignment", grouped, V103, more_groups(8), ("conv2",)),
    Case("depthwise", grouped, V103, more_groups(16), ("conv2",)),
    Case(
        "narrow-convolution",
        chain,
        V103,
        lambda m: edit.channels(m, "conv3.weight", (8, 16, 3, 3)),
        ("conv3",),
    ),
    Case("narrow-product", linear, V103, lambda m: edit.channels(m, "fc2.weight", (16, 8), 1), ("gemm2",)),
)

TYPES = (
    Case(
        "mixed-types", chain, V114, lambda m: edit.put(m, "conv2.bias", np.ones(16, np.float32)), ("conv2",)
    ),
    Case(
        "mixed-types", chain, V114, lambda m: edit.put(m, "relu1.q.scale", np.float32(0.0625)), ("relu1.q",)
    ),
    Case("half-reduction", softmax, V114, lambda m: edit.wire(m, "softmax1", 0, "gemm1"), ("softmax1",)),
    Case("half-reduction", chain, V114, half_norm, ("new",)),
    Case(
        "half-reduction",
        chain,
        V114,
        lambda m: edit.insert(m, "conv3", "conv3.float", "ReduceMean"),
        ("new",),
    ),
)

ACCELERATOR = (
    Case("dla-version", chain, on(V103, "10.3", dla=True), nothing, ("",)),
    Case("dla-version", chain, on(DLA, "11.4.0", dla=True), nothing, ("",)),
    Case("dla-static-shape", chain, DLA, lambda m: edit.resize_input(m, "batch"), ("",)),
    Case("dla-operand-scale", residual, DLA, lambda m: edit.rescale(m, "conv3", 0.05), ("add1",)),
    Case("dla-kept-scale", pool, DLA, lambda m: edit.rescale(m, "maxpool1", 0.05), ("maxpool1",)),
    Case("dla-kept-scale", pool, DLA, lambda m: edit.rescale(m, "averagepool1", 0.05), ("averagepool1",)),
    Case("dla-concat-scale", concat, DLA, lambda m: edit.rescale(m, "relu2", 0.05), ("concat1",)),
    Case("dla-bare-tensor", pool, DLA, lambda m: edit.drop_pair(m, "maxpool1"), ("conv2",)),
    Case("dla-operator", pool, DLA, global_pool, ("averagepool1",)),
    Case(
        "dla-window", pool, DLA, lambda m: edit.attribute(m, "maxpool1", kernel_shape=[9, 9]), ("maxpool1",)
    ),
    Case("dla-window", chain, DLA, lambda m: edit.attribute(m, "conv2", strides=[9, 9]), ("conv2",)),
    Case(
        "dla-window",
        transposed,
        DLA,
        lambda m: edit.attribute(m, "convtranspose1", pads=[1, 1, 1, 1]),
        ("convtranspose1",),
    ),
    Case("dla-channels", transposed, DLA, grouped_deconvolution, ("convtranspose1",)),
    Case("dla-concat-axis", concat, DLA, lambda m: edit.attribute(m, "concat1", axis=2), ("concat1",)),
    Case("dla-size", small, DLA, lambda m: edit.resize_input(m, 5000), ("",)),
    Case("dla-product", chain, DLA, self_product, ("new",)),
    Case(
        "dla-resize",
        transposed,
        DLA,
        lambda m: edit.put(m, "factors", np.float32([1, 1, 1.5, 1.5])),
        ("resize1",),
    ),
)

CASES = (*FILE, *QUANTIZERS, *CODES, *WEIGHTS, *PLACEMENT, *WIDTHS, *TYPES, *ACCELERATOR)
