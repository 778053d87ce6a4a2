"""Activations and softmax."""

from __future__ import annotations

import math

import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Tensor, Writer

aten = torch.ops.aten


def relu(g: Writer, self: Tensor) -> Tensor:
    return g.op("Relu", self)


def relu6(g: Writer, self: Tensor) -> Tensor:
    return hardtanh(g, self, 0, 6)


def hardtanh(g: Writer, self: Tensor, min_val: Scalar, max_val: Scalar) -> Tensor:
    return g.op("Clip", self, g.constant(min_val), g.constant(max_val))


def sigmoid(g: Writer, self: Tensor) -> Tensor:
    return g.op("Sigmoid", g.as_dtype(self))


def log_sigmoid(g: Writer, self: Tensor) -> Tensor:
    # log(sigmoid(x)) = -softplus(-x), which does not underflow.
    return g.op("Neg", g.op("Softplus", g.op("Neg", self)))


def tanh(g: Writer, self: Tensor) -> Tensor:
    return g.op("Tanh", g.as_dtype(self))


def leaky_relu(g: Writer, self: Tensor, negative_slope: float) -> Tensor:
    return g.op("LeakyRelu", self, alpha=float(negative_slope))


def rrelu(g: Writer, self: Tensor, lower: float, upper: float, training: bool) -> Tensor:
    if training:
        g.refuse("a randomised leaky ReLU in training mode is not deterministic")
    return leaky_relu(g, self, (lower + upper) / 2)


def elu(g: Writer, self: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    if input_scale != 1:
        g.refuse(f"input_scale={input_scale} has no lowering")
    y = g.op("Elu", self, alpha=float(alpha))
    return y if scale == 1 else g.op("Mul", y, g.constant(scale))


def selu(g: Writer, self: Tensor) -> Tensor:
    return g.op("Selu", self)


def celu(g: Writer, self: Tensor, alpha: float) -> Tensor:
    return g.op("Celu", self, alpha=float(alpha))


def prelu(g: Writer, self: Tensor, weight: Tensor) -> Tensor:
    """The slope ``[channels]`` belongs to dimension 1."""
    rank = len(self.shape)
    slope = weight if rank <= 2 else g.reshape(weight, [-1] + [1] * (rank - 2))
    return g.op("PRelu", self, slope)


def hardsigmoid(g: Writer, self: Tensor) -> Tensor:
    return g.op("HardSigmoid", self, alpha=1 / 6, beta=0.5)


def hardswish(g: Writer, self: Tensor) -> Tensor:
    if g.opset >= 14:
        return g.op("HardSwish", self)
    return g.op("Mul", self, hardsigmoid(g, self))


def silu(g: Writer, self: Tensor) -> Tensor:
    return g.op("Mul", self, g.op("Sigmoid", self))


def mish(g: Writer, self: Tensor) -> Tensor:
    return g.op("Mul", self, g.op("Tanh", g.op("Softplus", self)))


def softplus(g: Writer, self: Tensor, beta: Scalar, threshold: Scalar) -> Tensor:
    """Above ``threshold`` PyTorch returns x itself; the two differ by less than exp(-threshold)."""
    if threshold < 10:
        g.refuse(f"threshold={threshold}: below 10 the linear part differs visibly")
    if beta == 1:
        return g.op("Softplus", self)
    return g.op("Div", g.op("Softplus", g.op("Mul", self, g.constant(beta))), g.constant(beta))


def gelu(g: Writer, self: Tensor, approximate: str) -> Tensor:
    return _gelu_tanh(g, self) if approximate == "tanh" else _gelu_erf(g, self)


def _gelu_erf(g: Writer, x: Tensor) -> Tensor:
    # Written in the order in which ONNX Runtime and OpenVINO recognise it as one operator: x * (erf(x/√2) + 1) * 0.5.
    erf = g.op("Erf", g.op("Div", x, g.constant(math.sqrt(2))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", erf, g.constant(1.0))), g.constant(0.5))


def _gelu_tanh(g: Writer, x: Tensor) -> Tensor:
    # 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))
    cube = g.op("Mul", g.op("Mul", x, x), x)
    inner = g.op("Add", x, g.op("Mul", cube, g.constant(0.044715)))
    tanh_ = g.op("Tanh", g.op("Mul", inner, g.constant(math.sqrt(2 / math.pi))))
    return g.op("Mul", g.op("Mul", x, g.op("Add", tanh_, g.constant(1.0))), g.constant(0.5))


def glu(g: Writer, self: Tensor, dim: int) -> Tensor:
    half = g.known(self, dim) // 2
    a, b = g.ops("Split", self, g.ints([half, half]), outputs=2, axis=dim)
    return g.op("Mul", a, g.op("Sigmoid", b))


def threshold(g: Writer, self: Tensor, threshold: Scalar, value: Scalar) -> Tensor:
    above = g.op("Greater", self, g.constant(threshold))
    return g.op("Where", above, self, g.constant(value))


def hardshrink(g: Writer, self: Tensor, lambd: Scalar) -> Tensor:
    above = g.op("Greater", g.op("Abs", self), g.constant(lambd))
    return g.op("Where", above, self, g.constant(0.0))


def softshrink(g: Writer, self: Tensor, lambd: Scalar) -> Tensor:
    return g.op("Shrink", self, lambd=float(lambd), bias=float(lambd))


def softmax(g: Writer, self: Tensor, dim: int) -> Tensor:
    return g.op("Softmax", g.as_dtype(self), axis=dim)


def softmax_typed(g: Writer, self: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    """``dtype`` is that of the result; the input is cast first."""
    return softmax(g, self, dim)


def log_softmax(g: Writer, self: Tensor, dim: int) -> Tensor:
    return g.op("LogSoftmax", g.as_dtype(self), axis=dim)


def log_softmax_typed(g: Writer, self: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    """``dtype`` is that of the result; the input is cast first."""
    return log_softmax(g, self, dim)


LOWERINGS = lowerings(
    {
        aten.relu.default: relu,
        aten.relu6.default: relu6,
        aten.hardtanh.default: hardtanh,
        aten.sigmoid.default: sigmoid,
        aten.special_expit.default: sigmoid,
        aten.log_sigmoid.default: log_sigmoid,
        aten.tanh.default: tanh,
        aten.leaky_relu.default: leaky_relu,
        aten.rrelu.default: rrelu,
        aten.elu.default: elu,
        aten.selu.default: selu,
        aten.celu.default: celu,
        aten.prelu.default: prelu,
        aten.hardsigmoid.default: hardsigmoid,
        aten.hardswish.default: hardswish,
        aten.silu.default: silu,
        aten.mish.default: mish,
        aten.softplus.default: softplus,
        aten.gelu.default: gelu,
        aten.glu.default: glu,
        aten.threshold.default: threshold,
        aten.hardshrink.default: hardshrink,
        aten.softshrink.default: softshrink,
        aten.softmax.int: softmax_typed,
        aten._softmax.default: softmax,
        aten.log_softmax.int: log_softmax_typed,
        aten._log_softmax.default: log_softmax,
    }
)
