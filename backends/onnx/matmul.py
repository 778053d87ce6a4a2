"""Linear layers, matrix products and attention."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Tensor, Writer

aten = torch.ops.aten


def linear(g: Writer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Gemm on rank 2; above, x @ weightᵀ + bias: the form that runtimes run in integers when it is quantized."""
    if len(input.shape) == 2 and len(weight.shape) == 2:
        operands = (weight,) if bias is None else (weight, bias)
        return g.op("Gemm", input, *operands, transB=1)
    product = _product(g, input, _transposed(g, weight), len(input.shape), len(weight.shape))
    return product if bias is None else g.op("Add", product, bias)


def linear_never_bare(g: Writer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As :func:`linear`; integer rows without a bias, or with one of zeros, get one that vanishes in every sum.

    OpenVINO 2026.4 joins integer products of a few rows to one kernel. Where the first has no bias, or one that is the
    same for every channel, that kernel answers with memory's own contents.
    """
    source = weight.inputs[0] if weight.inputs else None
    integer = len(input.shape) == 2 and source is not None and source.op == "DequantizeLinear"
    if not integer or (bias is not None and _says_something(bias)):
        return linear(g, input, weight, bias)
    codes = np.zeros(int(weight.shape[0]), np.int32)
    codes[0] = 1
    least = g.constant(_VANISHING, np.float32, name=f"{g.label}.no_bias.scale")
    return linear(
        g, input, weight, g.op("DequantizeLinear", g.constant(codes, name=f"{g.label}.no_bias"), least)
    )


def _says_something(bias: Tensor) -> bool:
    source = bias.inputs[0] if bias.inputs else None
    codes = source.inputs[0] if source is not None and source.op == "DequantizeLinear" else bias
    return not isinstance(codes, gs.Constant) or bool(np.any(codes.values))


_VANISHING = 1e-25
"""Not zero, and gone when it is added to what a product of codes can be."""


def _transposed(g: Writer, weight: Tensor) -> Tensor:
    """weightᵀ; of a constant or of constant codes behind a DequantizeLinear without a node in the file."""
    if len(weight.shape) < 2:
        return weight
    source = weight.inputs[0] if weight.inputs else None
    if source is None or source.op != "DequantizeLinear" or not isinstance(source.inputs[0], gs.Constant):
        return g.transpose(weight, [1, 0])
    codes, *numbers = source.inputs
    axis = {"axis": 1 - source.attrs["axis"] % 2} if "axis" in source.attrs else {}
    return g.op("DequantizeLinear", g.transpose(codes, [1, 0]), *numbers, **axis)


def matmul(g: Writer, self: Tensor, other: Tensor) -> Tensor:
    return _product(g, self, other, len(self.shape), len(other.shape))


def _product(g: Writer, left: Tensor, right: Tensor, left_rank: int, right_rank: int) -> Tensor:
    """A vector is written as a matrix of one row or one column.

    ONNX Runtime 1.31 merges a Transpose into the product behind it, and then multiplies a vector with the wrong axis.
    """
    row, column = left_rank == 1, right_rank == 1
    left = g.unsqueeze(left, 0) if row else left
    right = g.unsqueeze(right, 1) if column else right
    product = g.op("MatMul", left, right)
    added = [-2] * row + [-1] * column
    return g.squeeze(product, *added) if added else product


def mm(g: Writer, self: Tensor, mat2: Tensor) -> Tensor:
    return g.op("MatMul", self, mat2)


def mv(g: Writer, self: Tensor, vec: Tensor) -> Tensor:
    return matmul(g, self, vec)


def dot(g: Writer, self: Tensor, tensor: Tensor) -> Tensor:
    return matmul(g, self, tensor)


def addmm(g: Writer, self: Tensor, mat1: Tensor, mat2: Tensor, beta: Scalar, alpha: Scalar) -> Tensor:
    return g.op("Gemm", mat1, mat2, self, alpha=float(alpha), beta=float(beta))


def baddbmm(g: Writer, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Scalar, alpha: Scalar) -> Tensor:
    product = g.op("MatMul", batch1, batch2)
    product = product if alpha == 1 else g.op("Mul", product, g.constant(alpha))
    return g.op("Add", self if beta == 1 else g.op("Mul", self, g.constant(beta)), product)


def outer(g: Writer, self: Tensor, vec2: Tensor) -> Tensor:
    return g.op("Mul", g.unsqueeze(self, 1), g.unsqueeze(vec2, 0))


def einsum(g: Writer, equation: str, tensors: list[Tensor]) -> Tensor:
    return g.op("Einsum", *tensors, equation=equation)


def bilinear(g: Writer, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """y[…, o] = Σ x1[…, i] · weight[o, i, j] · x2[…, j] + bias[o]"""
    product = g.op("Einsum", input1, weight, input2, equation="...i,oij,...j->...o")
    return product if bias is None else g.op("Add", product, bias)


def attention(
    g: Writer,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    """softmax(q·kᵀ·scale + mask)·v"""
    if dropout_p:
        g.refuse(f"attention with dropout {dropout_p} is random: call eval() before compiling")
    factor = 1 / math.sqrt(g.known(query, -1)) if scale is None else scale
    rank = len(key.shape)
    keys = g.op("Transpose", key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = g.op("MatMul", g.op("Mul", query, g.constant(factor)), keys)
    mask = _causal(g, query, key) if is_causal else attn_mask
    if mask is None:
        weights = g.op("Softmax", scores, axis=-1)
    elif mask.dtype == np.bool_:
        weights = _masked_softmax(g, scores, mask)
    else:
        weights = g.op("Softmax", g.op("Add", scores, mask), axis=-1)
    return g.op("MatMul", weights, value)


def _causal(g: Writer, query: Tensor, key: Tensor) -> Tensor:
    shape = (g.known(query, -2), g.known(key, -2))
    return g.constant(np.tril(np.ones(shape, bool)))


def _masked_softmax(g: Writer, scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax where ``mask`` is true, 0 elsewhere: also in a row that is masked as a whole, as in PyTorch."""
    low = g.constant(float(np.finfo(np.float32).min) / 2)
    weights = g.op("Softmax", g.op("Where", mask, scores, low), axis=-1)
    return g.op("Where", mask, weights, g.constant(0.0))


LOWERINGS = lowerings(
    {
        aten.linear.default: linear,
        aten.matmul.default: matmul,
        aten.mm.default: mm,
        aten.bmm.default: mm,
        aten.mv.default: mv,
        aten.dot.default: dot,
        aten.addmm.default: addmm,
        aten.baddbmm.default: baddbmm,
        aten.outer.default: outer,
        aten.einsum.default: einsum,
        aten.bilinear.default: bilinear,
        aten.scaled_dot_product_attention.default: attention,
    }
)

NEVER_BARE = lowerings({aten.linear.default: linear_never_bare})
"""What OpenVINO's room lowers its own way."""
