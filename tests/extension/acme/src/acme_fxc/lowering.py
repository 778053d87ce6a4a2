"""Acme's operators as ONNX nodes. Parameters have the names of the operators' schemas."""

import torch

import acme_fxc.ops  # noqa: F401  registers the operators
from fxc.backends.onnx.writer import Tensor, Writer


def soft_gate(g: Writer, x: Tensor, strength: float) -> Tensor:
    """x * sigmoid(strength * x)"""
    return g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, g.constant(strength))))


def flip_channels(g: Writer, x: Tensor) -> Tensor:
    """Dimension 1 from its end to its start."""
    return g.slice(x, 1, -1, -(2**31), -1)


LOWERINGS = {
    torch.ops.acme.soft_gate.default: soft_gate,
    torch.ops.acme.flip_channels.default: flip_channels,
}
