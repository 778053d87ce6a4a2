"""MIL's products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fxc.backends.coreml.mil.operator import Tensors


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias``, ``weight`` [out, in]."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Product of matrices, leading dimensions broadcast; of vectors as in NumPy."""
    a = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    b = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    return torch.matmul(a, b)


def einsum(values: Tensors, equation: str) -> Tensor:
    """Sum of products by an equation."""
    return torch.einsum(equation, *values)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """``softmax(query key^T / sqrt(e) + mask) value``; a mask of bools says what takes part."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask)


OPERATORS = (einsum, linear, matmul, scaled_dot_product_attention)
