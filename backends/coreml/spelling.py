"""How coremltools' converter wants the canonical operators spelled; what it does not know, or gets wrong, in operators it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import fx

from fxc.backends.apple.export import Style
from fxc.backends.apple.spelling import Call, Emit, Spelling
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR

aten = torch.ops.aten
decomposed = torch.ops.quantized_decomposed


def quantize_tensor(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """fxc::quantize.tensor -> quantize_per_tensor, with the same arguments."""
    return Call(decomposed.quantize_per_tensor.default, args)


def dequantize_tensor(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """fxc::dequantize.tensor(q, scale, zero_point) -> dequantize_per_tensor(q, scale, zero_point, qmin, qmax, dtype)."""
    return Call(decomposed.dequantize_per_tensor.default, (*args, *_codes(args[0])))


def dequantize_channel(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """fxc::dequantize.channel(q, scale, zero_point, axis) -> dequantize_per_channel(…, qmin, qmax, dtype)."""
    return Call(decomposed.dequantize_per_channel.default, (*args, *_codes(args[0])))


def _codes(codes: fx.Node) -> tuple[int, int, torch.dtype]:
    dtype = codes.meta["val"].dtype
    info = torch.iinfo(dtype)
    return info.min, info.max, dtype


def add(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """add(x, y, alpha=a) -> add(x, y * a); the converter reads no alpha."""
    return Call(aten.add.Tensor, (args[0], _scaled(emit, args[1], kwargs)))


def sub(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """sub(x, y, alpha=a) -> sub(x, y * a)."""
    return Call(aten.sub.Tensor, (args[0], _scaled(emit, args[1], kwargs)))


def rsub(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """rsub(x, number, alpha) -> rsub(x * alpha, number)."""
    alpha = args[2] if len(args) > 2 else 1
    return Call(aten.rsub.Scalar, (args[0] if alpha == 1 else emit(aten.mul.Scalar, args[0], alpha), args[1]))


def _scaled(emit: Emit, value: Any, kwargs: Mapping[str, Any]) -> Any:
    alpha = kwargs.get("alpha", 1)
    return value if alpha == 1 else emit(aten.mul.Scalar, value, alpha)


def reciprocal(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """reciprocal(x) -> x ** -1.0; the converter's own adds 1e-4 to x."""
    return Call(aten.pow.Tensor_Scalar, (args[0], -1.0))


def gelu(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """gelu(x, approximate="tanh") -> 0.5 x (1 + tanh(c (x + 0.044715 x^3))); the converter does not read the keyword."""
    x = args[0]
    if kwargs.get("approximate", "none") == "none":
        return Call(aten.gelu.default, args)
    cube = emit(aten.mul.Scalar, emit(aten.pow.Tensor_Scalar, x, 3.0), 0.044715)
    inner = emit(aten.mul.Scalar, emit(aten.add.Tensor, x, cube), math.sqrt(2 / math.pi))
    half = emit(aten.mul.Scalar, x, 0.5)
    return Call(aten.mul.Tensor, (half, emit(aten.add.Scalar, emit(aten.tanh.default, inner), 1.0)))


def to(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """to(x, dtype, …) -> _to_copy(x, dtype=dtype)."""
    return Call(aten._to_copy.default, (args[0],), {"dtype": args[1]})


def clamp_tensor(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """clamp(x, low, high) of tensors -> minimum(maximum(x, low), high)."""
    x, low, high = (*args, None, None)[:3]
    if high is None:
        return Call(aten.maximum.default, (x, low))
    return Call(aten.minimum.default, (x if low is None else emit(aten.maximum.default, x, low), high))


def lerp(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """lerp(x, y, w) -> x + (y - x) * w."""
    way = emit(aten.sub.Tensor, args[1], args[0])
    return Call(aten.add.Tensor, (args[0], emit(_times(args[2]), way, args[2])))


def addcmul(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """addcmul(x, y, z, value=v) -> x + y * z * v."""
    product = emit(aten.mul.Tensor, args[1], args[2])
    return Call(aten.add.Tensor, (args[0], _valued(emit, product, kwargs)))


def addcdiv(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """addcdiv(x, y, z, value=v) -> x + y / z * v."""
    return Call(aten.add.Tensor, (args[0], _valued(emit, emit(aten.div.Tensor, args[1], args[2]), kwargs)))


def _valued(emit: Emit, value: fx.Node, kwargs: Mapping[str, Any]) -> fx.Node:
    factor = kwargs.get("value", 1)
    return value if factor == 1 else emit(aten.mul.Scalar, value, factor)


def _times(value: Any) -> Any:
    return aten.mul.Tensor if isinstance(value, fx.Node) else aten.mul.Scalar


def log_sigmoid(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """log_sigmoid(x) -> -softplus(-x)."""
    return Call(aten.neg.default, (emit(aten.softplus.default, emit(aten.neg.default, args[0])),))


def celu(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """celu(x, alpha) -> elu(x / alpha) * alpha."""
    alpha = args[1] if len(args) > 1 else 1.0
    return Call(aten.mul.Scalar, (emit(aten.elu.default, emit(aten.div.Scalar, args[0], alpha), 1.0), alpha))


def trunc(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """trunc(x) -> sign(x) * floor(abs(x))."""
    whole = emit(aten.floor.default, emit(aten.abs.default, args[0]))
    return Call(aten.mul.Tensor, (emit(aten.sign.default, args[0]), whole))


def addmm(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """addmm(b, x, y, beta, alpha) -> x y alpha + b beta; the converter takes the factors for integers."""
    return _sum_of_product(emit, aten.mm.default, args, kwargs)


def baddbmm(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """baddbmm(b, x, y, beta, alpha) -> x y alpha + b beta."""
    return _sum_of_product(emit, aten.bmm.default, args, kwargs)


def _sum_of_product(emit: Emit, product: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    alpha, beta = (float(kwargs.get(word, 1)) for word in ("alpha", "beta"))
    made = emit(product, *args[1:3])
    scaled = made if alpha == 1 else emit(aten.mul.Scalar, made, alpha)
    return Call(aten.add.Tensor, (scaled, args[0] if beta == 1 else emit(aten.mul.Scalar, args[0], beta)))


def rms_norm(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """rms_norm(x, shape, weight, None) -> rms_norm(x, shape, weight, the smallest step of its dtype), which is PyTorch's default."""
    x, shape, weight, eps = args
    return Call(aten.rms_norm.default, (x, shape, weight, _step_of(x) if eps is None else eps))


def _step_of(x: fx.Node) -> float:
    return float(torch.finfo(x.meta["val"].dtype).eps)


def channel_shuffle(emit: Emit, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """channel_shuffle(x, groups) -> reshape, permute, reshape."""
    n, c, *rest = args[0].meta["val"].shape
    n = n if isinstance(n, int) else -1
    apart = emit(aten.reshape.default, args[0], [n, args[1], c // args[1], *rest])
    turned = emit(aten.permute.default, apart, [0, 2, 1, *range(3, 3 + len(rest))])
    return Call(aten.reshape.default, (turned, [n, c, *rest]))


SPELLINGS: Mapping[Any, Spelling] = MappingProxyType(
    {
        QUANTIZE_TENSOR: quantize_tensor,
        DEQUANTIZE_TENSOR: dequantize_tensor,
        DEQUANTIZE_CHANNEL: dequantize_channel,
        aten.add.Tensor: add,
        aten.sub.Tensor: sub,
        aten.rsub.Scalar: rsub,
        aten.reciprocal.default: reciprocal,
        aten.gelu.default: gelu,
        aten.to.dtype: to,
        aten.clamp.Tensor: clamp_tensor,
        aten.lerp.Scalar: lerp,
        aten.lerp.Tensor: lerp,
        aten.addcmul.default: addcmul,
        aten.addcdiv.default: addcdiv,
        aten.log_sigmoid.default: log_sigmoid,
        aten.celu.default: celu,
        aten.trunc.default: trunc,
        aten.rms_norm.default: rms_norm,
        aten.channel_shuffle.default: channel_shuffle,
        aten.addmm.default: addmm,
        aten.baddbmm.default: baddbmm,
    }
)

STYLE = Style("Core ML", SPELLINGS)
"""As coremltools reads a program."""
