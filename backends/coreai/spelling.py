"""How coreai-torch wants the canonical operators spelled; what it does not know, or gets wrong, in operators it knows."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import fx
from torch._decomp import get_decompositions

from fxc.backends.apple.decompose import Table
from fxc.backends.apple.spelling import Call, Emit, Spelling, Spellings
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR

aten = torch.ops.aten


def spellings(quantize: Any, dequantize: Any, floats: torch.dtype) -> Spellings:
    """All of them.

    Args:
        quantize, dequantize: coreai-torch's own operators.
        floats: the dtype that float32 becomes.
    """

    def quantize_tensor(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """fxc::quantize.tensor(x, scale, zero_point, qmin, qmax, dtype) -> coreai::quantize(x, scale, dtype, zero_point)."""
        x, scale, zero_point, _, _, dtype = args
        return Call(quantize, (x, _number(emit, scale, floats), dtype, _number(emit, zero_point, dtype)))

    def dequantize_tensor(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """fxc::dequantize.tensor(q, scale, zero_point) -> coreai::dequantize(q, scale, zero_point)."""
        q, scale, zero_point = args
        return Call(dequantize, (q, _number(emit, scale, floats), _number(emit, zero_point, _dtype(q))))

    def dequantize_channel(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """fxc::dequantize.channel(q, scale, zero_point, axis) -> coreai::dequantize(q, scale, zero_point, None, axis)."""
        q, scale, zero_point, axis = args
        codes = emit(aten._to_copy.default, zero_point, dtype=_dtype(q))
        return Call(dequantize, (q, scale, codes, None, axis))

    return MappingProxyType(
        {
            **_PLAIN,
            QUANTIZE_TENSOR: quantize_tensor,
            DEQUANTIZE_TENSOR: dequantize_tensor,
            DEQUANTIZE_CHANNEL: dequantize_channel,
        }
    )


def _number(emit: Emit, value: float, dtype: torch.dtype) -> fx.Node:
    return emit(aten.full.default, [], value, dtype=dtype)


def _dtype(node: fx.Node) -> torch.dtype:
    found: torch.dtype = node.meta["val"].dtype
    return found


def table(own: Table) -> Table:
    """What is taken apart: what coreai-torch asks for, and what it has no form for but PyTorch can take apart.

    Args:
        own: ``coreai_torch.get_decomp_table()``.
    """
    return {**own, **{op: op.decompose for op in _COMPOSED}, **get_decompositions(_APART)}


_COMPOSED = (aten.reshape.default, aten.contiguous.default)
_APART = (
    aten.elu.default,
    aten.grid_sampler_2d.default,
    aten.upsample_bicubic2d.default,
    aten.upsample_trilinear3d.default,
    aten.upsample_trilinear3d.vec,
)


def add(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """add(x, y, alpha=a) -> add(x, y * a); the converter reads no alpha."""
    return Call(aten.add.Tensor, (args[0], _scaled(emit, args[1], kwargs)))


def sub(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """sub(x, y, alpha=a) -> sub(x, y * a)."""
    return Call(aten.sub.Tensor, (args[0], _scaled(emit, args[1], kwargs)))


def _scaled(emit: Emit, value: Any, kwargs: Mapping[str, Any]) -> Any:
    alpha = kwargs.get("alpha", 1)
    return value if alpha == 1 else emit(aten.mul.Scalar, value, alpha)


def rsub(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """rsub(x, number, alpha) -> number - x * alpha."""
    alpha = args[2] if len(args) > 2 else 1
    scaled = args[0] if alpha == 1 else emit(aten.mul.Scalar, args[0], alpha)
    return Call(aten.add.Scalar, (emit(aten.neg.default, scaled), args[1]))


def to(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """to(x, dtype, …) -> _to_copy(x, dtype=dtype)."""
    return to_copy(emit, args[:1], {"dtype": args[1]})


def to_copy(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """_to_copy(x, dtype=integer, …) -> _to_copy(trunc(x), dtype=integer); a cast there and back again is dropped otherwise."""
    x, dtype = args[0], kwargs.get("dtype") or _dtype(args[0])
    if _dtype(x).is_floating_point and not dtype.is_floating_point and dtype is not torch.bool:
        x = emit(aten.trunc.default, x)
    return Call(aten._to_copy.default, (x,), {"dtype": dtype})


def remainder(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """remainder(x, number) -> remainder(x, tensor)."""
    return Call(aten.remainder.Tensor, (args[0], _number(emit, args[1], _dtype(args[0]))))


def isnan(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """isnan(x) -> x != x."""
    return Call(aten.ne.Tensor, (args[0], args[0]))


def argmin(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """argmin(x, …) -> argmax(-x, …)."""
    return Call(aten.argmax.default, (emit(aten.neg.default, args[0]), *args[1:]))


def var(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """var(x, dim, correction, keepdim) -> sum((x - mean(x)) ** 2) / (n - correction)."""
    x, dims = args[0], args[1] if len(args) > 1 else None
    shape = x.meta["val"].shape
    axes = list(dims) if dims else list(range(len(shape)))
    apart = emit(aten.sub.Tensor, x, emit(aten.mean.dim, x, axes, True))
    total = emit(
        aten.sum.dim_IntList, emit(aten.mul.Tensor, apart, apart), axes, kwargs.get("keepdim", False)
    )
    correction = kwargs.get("correction")
    count = math.prod(shape[a] for a in axes) - (1 if correction is None else correction)
    return Call(aten.div.Scalar, (total, count))


def std(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """std(x, …) -> sqrt(var(x, …))."""
    call = var(emit, args, kwargs)
    return Call(aten.sqrt.default, (emit(call.target, *call.args),))


def batch_norm(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """batch_norm(x, weight, bias, mean, var, False, momentum, eps, …) -> _native_batch_norm_legit_no_training(…)[0]."""
    x, weight, bias, mean, variance, _, momentum, eps, *_ = args
    shape = list(mean.meta["val"].shape)
    weight = weight if weight is not None else emit(aten.full.default, shape, 1.0, dtype=_dtype(mean))
    bias = bias if bias is not None else emit(aten.full.default, shape, 0.0, dtype=_dtype(mean))
    norm = aten._native_batch_norm_legit_no_training.default
    return Call(operator.getitem, (emit(norm, x, weight, bias, mean, variance, momentum, eps), 0))


def rms_norm(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """rms_norm(x, shape, weight, eps) -> x * rsqrt(mean(x * x) + eps) * weight."""
    x, shape, weight, eps = args
    step = float(torch.finfo(_dtype(x)).eps) if eps is None else eps
    square = emit(aten.mean.dim, emit(aten.mul.Tensor, x, x), list(range(-len(shape), 0)), True)
    scaled = (x, emit(aten.rsqrt.default, emit(aten.add.Scalar, square, step)))
    return Call(aten.mul.Tensor, scaled if weight is None else (emit(aten.mul.Tensor, *scaled), weight))


_PLAIN: Mapping[Any, Spelling] = MappingProxyType(
    {
        aten.add.Tensor: add,
        aten.sub.Tensor: sub,
        aten.rsub.Scalar: rsub,
        aten.to.dtype: to,
        aten._to_copy.default: to_copy,
        aten.remainder.Scalar: remainder,
        aten.isnan.default: isnan,
        aten.argmin.default: argmin,
        aten.var.correction: var,
        aten.std.correction: std,
        aten.batch_norm.default: batch_norm,
        aten.rms_norm.default: rms_norm,
    }
)
