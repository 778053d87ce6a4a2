"""Reductions, arg-reductions and cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Tensor, Writer

aten = torch.ops.aten


def reduce(g: Writer, kind: str, x: Tensor, axes: list[int] | None, keepdim: bool) -> Tensor:
    """A Reduce operator over ``axes`` (``None`` or empty: all); they are an attribute until opset 17."""
    keep = int(keepdim)
    if not axes:
        return g.op(kind, x, keepdims=keep)
    # ReduceSum takes its axes as an input since opset 13, the others since 18.
    if kind == "ReduceSum" or g.opset >= 18:
        return g.op(kind, x, g.ints(axes), keepdims=keep)
    return g.op(kind, x, axes=list(axes), keepdims=keep)


def _over_dims(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, dim: list[int] | None, keepdim: bool) -> Tensor:
        return reduce(g, kind, g.as_dtype(self), dim, keepdim)

    return build


def _typed_over_dims(kind: str) -> Callable[..., Tensor]:
    def build(
        g: Writer, self: Tensor, dim: list[int] | None, keepdim: bool, dtype: torch.dtype | None
    ) -> Tensor:
        return reduce(g, kind, g.as_dtype(self), dim, keepdim)

    return build


def _over_dim(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, dim: int, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        return reduce(g, kind, g.as_dtype(self), [dim], keepdim)

    return build


def _over_all(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor) -> Tensor:
        return reduce(g, kind, self, None, False)

    return build


def _typed_over_all(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, dtype: torch.dtype | None) -> Tensor:
        return reduce(g, kind, g.as_dtype(self), None, False)

    return build


def _with_index(value: str, index: str) -> Callable[..., tuple[Tensor, Tensor]]:
    def build(g: Writer, self: Tensor, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
        place = g.op(index, self, axis=dim, keepdims=int(keepdim))
        return reduce(g, value, self, [dim], keepdim), place

    return build


def _index(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, dim: int | None, keepdim: bool) -> Tensor:
        if dim is not None:
            return g.op(kind, self, axis=dim, keepdims=int(keepdim))
        if keepdim:
            g.refuse("an arg-reduction over all dimensions with keepdim has no lowering")
        return g.op(kind, g.reshape(self, [-1]), axis=0, keepdims=0)

    return build


def variance(
    g: Writer, x: Tensor, dim: list[int] | None, correction: Scalar | None, keepdim: bool
) -> tuple[Tensor, Tensor]:
    """Variance and mean: sum((x - mean)²) / (n - correction)."""
    axes = dim or list(range(len(x.shape)))
    count = math.prod(g.known(x, axis) for axis in axes)
    mean = reduce(g, "ReduceMean", x, axes, True)
    centred = g.op("Sub", x, mean)
    total = reduce(g, "ReduceSum", g.op("Mul", centred, centred), axes, keepdim)
    divisor = max(count - (1 if correction is None else correction), 0)
    shown = mean if keepdim else g.squeeze(mean, *axes)
    return g.op("Div", total, g.constant(float(divisor))), shown


def var(g: Writer, self: Tensor, dim: list[int] | None, correction: Scalar | None, keepdim: bool) -> Tensor:
    return variance(g, self, dim, correction, keepdim)[0]


def var_dim(g: Writer, self: Tensor, dim: list[int] | None, unbiased: bool, keepdim: bool) -> Tensor:
    return var(g, self, dim, int(unbiased), keepdim)


def std(g: Writer, self: Tensor, dim: list[int] | None, correction: Scalar | None, keepdim: bool) -> Tensor:
    return g.op("Sqrt", var(g, self, dim, correction, keepdim))


def std_dim(g: Writer, self: Tensor, dim: list[int] | None, unbiased: bool, keepdim: bool) -> Tensor:
    return std(g, self, dim, int(unbiased), keepdim)


def var_mean(
    g: Writer, self: Tensor, dim: list[int] | None, correction: Scalar | None, keepdim: bool
) -> tuple[Tensor, Tensor]:
    return variance(g, self, dim, correction, keepdim)


def vector_norm(
    g: Writer, self: Tensor, ord: Scalar, dim: list[int] | None, keepdim: bool, dtype: torch.dtype | None
) -> Tensor:
    """(Σ|x|^ord)^(1/ord); the maximum of |x| for infinity."""
    x = g.as_dtype(self)
    # Not ReduceL1 and ReduceL2: OpenVINO 2026.4 overlooks their axes attribute below opset 18.
    if ord == 2:
        return g.op("Sqrt", reduce(g, "ReduceSum", g.op("Mul", x, x), dim, keepdim))
    magnitude = g.op("Abs", x)
    if ord == 1:
        return reduce(g, "ReduceSum", magnitude, dim, keepdim)
    if ord in (math.inf, -math.inf):
        return reduce(g, "ReduceMax" if ord > 0 else "ReduceMin", magnitude, dim, keepdim)
    if ord == 0:
        g.refuse("a norm of order 0 has no lowering")
    total = reduce(g, "ReduceSum", g.op("Pow", magnitude, g.constant(ord)), dim, keepdim)
    return g.op("Pow", total, g.constant(1 / ord))


def norm(g: Writer, self: Tensor, p: Scalar | None, dim: list[int], keepdim: bool) -> Tensor:
    return vector_norm(g, self, 2 if p is None else p, dim, keepdim, None)


def logsumexp(g: Writer, self: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    """max + log Σ exp(x - max). Not ReduceLogSumExp: OpenVINO 2026.4 overlooks its axes attribute below opset 18."""
    peak = reduce(g, "ReduceMax", self, dim, True)
    total = reduce(g, "ReduceSum", g.op("Exp", g.op("Sub", self, peak)), dim, keepdim)
    return g.op("Add", g.op("Log", total), peak if keepdim else g.squeeze(peak, *dim))


def cosine_similarity(g: Writer, x1: Tensor, x2: Tensor, dim: int, eps: float) -> Tensor:
    """Σ x1·x2 / (max(‖x1‖, eps) · max(‖x2‖, eps))"""

    def length(x: Tensor) -> Tensor:
        return g.op("Max", vector_norm(g, x, 2, [dim], False, None), g.constant(eps))

    product = reduce(g, "ReduceSum", g.op("Mul", x1, x2), [dim], False)
    return g.op("Div", product, g.op("Mul", length(x1), length(x2)))


def _truth(kind: str) -> Callable[..., Tensor]:
    """any: the maximum of 0 and 1; all: the minimum."""

    def build(g: Writer, self: Tensor, dim: int | list[int] | None, keepdim: bool) -> Tensor:
        axes = [dim] if isinstance(dim, int) else dim
        bits = g.as_dtype(g.as_dtype(self, np.bool_), np.int32)
        bits = bits if bits.dtype is not None else g.op("Cast", self, to=np.int32)
        return g.op("Cast", reduce(g, kind, bits, axes, keepdim), to=np.bool_)

    return build


def _truth_of_all(kind: str) -> Callable[..., Tensor]:
    build_over = _truth(kind)

    def build(g: Writer, self: Tensor) -> Tensor:
        return build_over(g, self, None, False)

    return build


def cumsum(g: Writer, self: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    g.need_opset(14 if g.dtype.kind in "iu" and g.dtype.itemsize < 4 else 11, "CumSum")
    return g.op("CumSum", g.as_dtype(self), g.constant(dim, np.int64))


LOWERINGS = lowerings(
    {
        aten.mean.dim: _typed_over_dims("ReduceMean"),
        aten.mean.default: _typed_over_all("ReduceMean"),
        aten.sum.dim_IntList: _typed_over_dims("ReduceSum"),
        aten.sum.default: _typed_over_all("ReduceSum"),
        aten.prod.dim_int: _over_dim("ReduceProd"),
        aten.prod.default: _typed_over_all("ReduceProd"),
        aten.amax.default: _over_dims("ReduceMax"),
        aten.amin.default: _over_dims("ReduceMin"),
        aten.max.default: _over_all("ReduceMax"),
        aten.min.default: _over_all("ReduceMin"),
        aten.max.dim: _with_index("ReduceMax", "ArgMax"),
        aten.min.dim: _with_index("ReduceMin", "ArgMin"),
        aten.argmax.default: _index("ArgMax"),
        aten.argmin.default: _index("ArgMin"),
        aten.var.correction: var,
        aten.var.dim: var_dim,
        aten.std.correction: std,
        aten.std.dim: std_dim,
        aten.var_mean.correction: var_mean,
        aten.linalg_vector_norm.default: vector_norm,
        aten.norm.ScalarOpt_dim: norm,
        aten.logsumexp.default: logsumexp,
        aten.cosine_similarity.default: cosine_similarity,
        aten.any.default: _truth_of_all("ReduceMax"),
        aten.any.dim: _truth("ReduceMax"),
        aten.any.dims: _truth("ReduceMax"),
        aten.all.default: _truth_of_all("ReduceMin"),
        aten.all.dim: _truth("ReduceMin"),
        aten.all.dims: _truth("ReduceMin"),
        aten.cumsum.default: cumsum,
    }
)
