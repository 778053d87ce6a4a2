"""Tensors made from nothing: constants where every size is known."""

from __future__ import annotations

import numpy as np
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Size, Symbolic, Tensor, Writer

aten = torch.ops.aten


def full(g: Writer, size: list[Size], fill_value: Scalar, dtype: torch.dtype | None) -> Tensor:
    """``dtype`` is that of the result."""
    if not any(isinstance(s, Symbolic) for s in size):
        return g.constant(np.full([int(s) for s in size], fill_value, g.dtype))  # type: ignore[arg-type]
    return g.op("Expand", g.constant(fill_value), g.ints(size))


def zeros(g: Writer, size: list[Size], dtype: torch.dtype | None) -> Tensor:
    return full(g, size, 0, dtype)


def ones(g: Writer, size: list[Size], dtype: torch.dtype | None) -> Tensor:
    return full(g, size, 1, dtype)


def new_full(
    g: Writer, self: Tensor, size: list[Size], fill_value: Scalar, dtype: torch.dtype | None
) -> Tensor:
    return full(g, size, fill_value, dtype)


def new_zeros(g: Writer, self: Tensor, size: list[Size], dtype: torch.dtype | None) -> Tensor:
    return full(g, size, 0, dtype)


def new_ones(g: Writer, self: Tensor, size: list[Size], dtype: torch.dtype | None) -> Tensor:
    return full(g, size, 1, dtype)


def full_like(g: Writer, self: Tensor, fill_value: Scalar, dtype: torch.dtype | None) -> Tensor:
    return full(g, [g.size(self, axis) for axis in range(len(self.shape))], fill_value, dtype)


def zeros_like(g: Writer, self: Tensor, dtype: torch.dtype | None) -> Tensor:
    return full_like(g, self, 0, dtype)


def ones_like(g: Writer, self: Tensor, dtype: torch.dtype | None) -> Tensor:
    return full_like(g, self, 1, dtype)


def scalar_tensor(g: Writer, s: Scalar, dtype: torch.dtype | None) -> Tensor:
    return g.constant(s)


def arange(g: Writer, end: Size, dtype: torch.dtype | None) -> Tensor:
    return arange_step(g, 0, end, 1, dtype)


def arange_start(g: Writer, start: Size, end: Size, dtype: torch.dtype | None) -> Tensor:
    return arange_step(g, start, end, 1, dtype)


def arange_step(g: Writer, start: Size, end: Size, step: Size, dtype: torch.dtype | None) -> Tensor:
    if not any(isinstance(v, Symbolic) for v in (start, end, step)):
        return g.constant(np.arange(start, end, step).astype(g.dtype))  # type: ignore[arg-type]
    bounds = [g.squeeze(v.tensor if isinstance(v, Symbolic) else g.ints([v]), 0) for v in (start, end, step)]
    counted = g.op("Range", *bounds)
    return counted if g.dtype == np.int64 else g.op("Cast", counted, to=g.dtype.type)


def linspace(g: Writer, start: Scalar, end: Scalar, steps: int, dtype: torch.dtype | None) -> Tensor:
    return g.constant(torch.linspace(start, end, steps, dtype=dtype).numpy().astype(g.dtype))


def eye(g: Writer, n: int, dtype: torch.dtype | None) -> Tensor:
    return g.constant(np.eye(n, dtype=g.dtype))


LOWERINGS = lowerings(
    {
        aten.full.default: full,
        aten.zeros.default: zeros,
        aten.ones.default: ones,
        aten.new_full.default: new_full,
        aten.new_zeros.default: new_zeros,
        aten.new_ones.default: new_ones,
        aten.full_like.default: full_like,
        aten.zeros_like.default: zeros_like,
        aten.ones_like.default: ones_like,
        aten.scalar_tensor.default: scalar_tensor,
        aten.arange.default: arange,
        aten.arange.start: arange_start,
        aten.arange.start_step: arange_step,
        aten.linspace.default: linspace,
        aten.eye.default: eye,
    }
)
