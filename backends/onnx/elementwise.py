"""Arithmetic, comparison, logic and casts, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from fxc.backends.onnx.dtypes import is_float
from fxc.backends.onnx.lowering import lowerings
from fxc.backends.onnx.writer import Scalar, Tensor, Writer

aten = torch.ops.aten
Operand: TypeAlias = Tensor | Scalar


def _unary(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor) -> Tensor:
        return g.op(kind, g.as_dtype(self))

    return build


def _binary(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Operand, other: Operand) -> Tensor:
        return g.op(kind, g.as_dtype(self), g.as_dtype(other))

    return build


def _scaled(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Operand, other: Operand, alpha: Scalar) -> Tensor:
        right = g.as_dtype(other)
        return g.op(kind, g.as_dtype(self), right if alpha == 1 else g.op("Mul", right, g.constant(alpha)))

    return build


def rsub(g: Writer, self: Operand, other: Operand, alpha: Scalar) -> Tensor:
    """other - alpha * self"""
    left = g.as_dtype(self)
    return g.op("Sub", g.as_dtype(other), left if alpha == 1 else g.op("Mul", left, g.constant(alpha)))


def div_mode(g: Writer, self: Operand, other: Operand, rounding_mode: str | None) -> Tensor:
    """True division, or rounded to minus infinity (``"floor"``) or to zero (``"trunc"``)."""
    a, b = g.as_dtype(self), g.as_dtype(other)
    if rounding_mode is None:
        return g.op("Div", a, b)
    if is_float(g.dtype):
        quotient = g.op("Div", a, b)
        return g.op("Floor", quotient) if rounding_mode == "floor" else trunc(g, quotient)
    quotient = g.op("Div", a, b)
    if rounding_mode == "trunc":
        return quotient
    # Integer Div rounds to zero; a remainder of Mod takes the divisor's sign, so (a - a mod b) / b is exact.
    return g.op("Div", g.op("Sub", a, g.op("Mod", a, b, fmod=0)), b)


def floor_divide(g: Writer, self: Operand, other: Operand) -> Tensor:
    return div_mode(g, self, other, "floor")


def trunc(g: Writer, self: Tensor) -> Tensor:
    return g.op("Mul", g.op("Sign", self), g.op("Floor", g.op("Abs", self)))


def remainder(g: Writer, self: Operand, other: Operand) -> Tensor:
    """The remainder with the sign of ``other``."""
    a, b = g.as_dtype(self), g.as_dtype(other)
    if not is_float(g.dtype):
        return g.op("Mod", a, b, fmod=0)
    return g.op("Sub", a, g.op("Mul", g.op("Floor", g.op("Div", a, b)), b))


def fmod(g: Writer, self: Operand, other: Operand) -> Tensor:
    """The remainder with the sign of ``self``."""
    return g.op("Mod", g.as_dtype(self), g.as_dtype(other), fmod=1)


def pow_(g: Writer, self: Operand, exponent: Operand) -> Tensor:
    base = g.as_dtype(self)
    if isinstance(exponent, (int, float)) and exponent == 2:
        return g.op("Mul", base, base)
    if isinstance(exponent, (int, float)) and exponent == 0.5:
        return g.op("Sqrt", base)
    return g.op("Pow", base, g.as_dtype(exponent))


def square(g: Writer, self: Tensor) -> Tensor:
    return g.op("Mul", self, self)


def rsqrt(g: Writer, self: Tensor) -> Tensor:
    return g.op("Reciprocal", g.op("Sqrt", g.as_dtype(self)))


def log1p(g: Writer, self: Tensor) -> Tensor:
    return g.op("Log", g.op("Add", g.as_dtype(self), g.constant(1.0)))


def expm1(g: Writer, self: Tensor) -> Tensor:
    return g.op("Sub", g.op("Exp", g.as_dtype(self)), g.constant(1.0))


def exp2(g: Writer, self: Tensor) -> Tensor:
    return g.op("Pow", g.constant(2.0), g.as_dtype(self))


def _log_base(base: float) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor) -> Tensor:
        return g.op("Div", g.op("Log", g.as_dtype(self)), g.constant(math.log(base)))

    return build


def positive(g: Writer, self: Tensor) -> Tensor:
    return self


def round_(g: Writer, self: Tensor) -> Tensor:
    return g.op("Round", self) if is_float(g.dtype) else self


def atan2(g: Writer, self: Tensor, other: Tensor) -> Tensor:
    """atan(y/x), moved by ±π where x is negative; x = 0 is ±π/2 by the division's infinity."""
    angle = g.op("Atan", g.op("Div", self, other))
    zero, pi = g.constant(0.0), g.constant(math.pi)
    turn = g.op("Where", g.op("Less", self, zero), g.op("Neg", pi), pi)
    return g.op("Add", angle, g.op("Where", g.op("Less", other, zero), turn, zero))


def addcmul(g: Writer, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Scalar) -> Tensor:
    product = g.op("Mul", g.as_dtype(tensor1), g.as_dtype(tensor2))
    return g.op("Add", g.as_dtype(self), product if value == 1 else g.op("Mul", product, g.constant(value)))


def addcdiv(g: Writer, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Scalar) -> Tensor:
    quotient = g.op("Div", g.as_dtype(tensor1), g.as_dtype(tensor2))
    return g.op("Add", g.as_dtype(self), quotient if value == 1 else g.op("Mul", quotient, g.constant(value)))


def lerp(g: Writer, self: Tensor, end: Tensor, weight: Operand) -> Tensor:
    return g.op("Add", self, g.op("Mul", g.as_dtype(weight), g.op("Sub", end, self)))


def clamp(g: Writer, self: Tensor, min: Scalar | None, max: Scalar | None) -> Tensor:
    limits = [None if bound is None else g.constant(bound) for bound in (min, max)]
    return g.op("Clip", g.as_dtype(self), *(limits if max is not None else limits[:1]))


def clamp_tensor(g: Writer, self: Tensor, min: Tensor | None, max: Tensor | None) -> Tensor:
    above = g.as_dtype(self) if min is None else g.op("Max", g.as_dtype(self), g.as_dtype(min))
    return above if max is None else g.op("Min", above, g.as_dtype(max))


def clamp_min(g: Writer, self: Tensor, min: Scalar) -> Tensor:
    return clamp(g, self, min, None)


def clamp_max(g: Writer, self: Tensor, max: Scalar) -> Tensor:
    return clamp(g, self, None, max)


def _compare(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, other: Operand) -> Tensor:
        return g.op(kind, *g.together(self, other))

    return build


def not_equal(g: Writer, self: Tensor, other: Operand) -> Tensor:
    return g.op("Not", g.op("Equal", *g.together(self, other)))


def _logical(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, other: Operand) -> Tensor:
        return g.op(kind, g.as_dtype(self, np.bool_), g.as_dtype(other, np.bool_))

    return build


def _bitwise(kind: str) -> Callable[..., Tensor]:
    def build(g: Writer, self: Tensor, other: Operand) -> Tensor:
        if g.dtype == np.bool_:
            return g.op(kind, g.as_dtype(self), g.as_dtype(other))
        g.need_opset(18, f"an integer Bitwise{kind}")
        return g.op(f"Bitwise{kind}", g.as_dtype(self), g.as_dtype(other))

    return build


def logical_not(g: Writer, self: Tensor) -> Tensor:
    return g.op("Not", g.as_dtype(self, np.bool_))


def bitwise_not(g: Writer, self: Tensor) -> Tensor:
    if g.dtype == np.bool_:
        return g.op("Not", self)
    g.need_opset(18, "an integer BitwiseNot")
    return g.op("BitwiseNot", self)


def isinf(g: Writer, self: Tensor) -> Tensor:
    return g.op("IsInf", self)


def isnan(g: Writer, self: Tensor) -> Tensor:
    return g.op("IsNaN", self)


def where(g: Writer, condition: Tensor, self: Operand, other: Operand) -> Tensor:
    return g.op("Where", g.as_dtype(condition, np.bool_), g.as_dtype(self), g.as_dtype(other))


def masked_fill(g: Writer, self: Tensor, mask: Tensor, value: Operand) -> Tensor:
    return g.op("Where", g.as_dtype(mask, np.bool_), g.as_dtype(value), self)


def cast(g: Writer, self: Tensor) -> Tensor:
    return g.as_dtype(self)


def cast_to(g: Writer, self: Tensor, dtype: torch.dtype | None) -> Tensor:
    """``dtype`` is that of the result."""
    return cast(g, self)


def cast_as(g: Writer, self: Tensor, other: Tensor) -> Tensor:
    """``other`` gives the dtype, which the result has."""
    return cast(g, self)


def same(g: Writer, self: Tensor) -> Tensor:
    return self


def dropout(g: Writer, input: Tensor, p: float, train: bool) -> Tensor:
    if train:
        g.refuse("dropout in training mode is random: call eval() before compiling")
    return input


_UNARY = {
    "Abs": aten.abs.default,
    "Neg": aten.neg.default,
    "Exp": aten.exp.default,
    "Log": aten.log.default,
    "Sqrt": aten.sqrt.default,
    "Reciprocal": aten.reciprocal.default,
    "Sin": aten.sin.default,
    "Cos": aten.cos.default,
    "Tan": aten.tan.default,
    "Asin": aten.asin.default,
    "Acos": aten.acos.default,
    "Atan": aten.atan.default,
    "Sinh": aten.sinh.default,
    "Cosh": aten.cosh.default,
    "Asinh": aten.asinh.default,
    "Acosh": aten.acosh.default,
    "Atanh": aten.atanh.default,
    "Erf": aten.erf.default,
    "Floor": aten.floor.default,
    "Ceil": aten.ceil.default,
    "Sign": aten.sign.default,
}

_COMPARE = {
    "Equal": (aten.eq.Tensor, aten.eq.Scalar),
    "Less": (aten.lt.Tensor, aten.lt.Scalar),
    "LessOrEqual": (aten.le.Tensor, aten.le.Scalar),
    "Greater": (aten.gt.Tensor, aten.gt.Scalar),
    "GreaterOrEqual": (aten.ge.Tensor, aten.ge.Scalar),
}

LOWERINGS = lowerings(
    {target: _unary(kind) for kind, target in _UNARY.items()}
    | {target: _compare(kind) for kind, targets in _COMPARE.items() for target in targets}
    | {
        aten.add.Tensor: _scaled("Add"),
        aten.add.Scalar: _scaled("Add"),
        aten.sub.Tensor: _scaled("Sub"),
        aten.sub.Scalar: _scaled("Sub"),
        aten.rsub.Tensor: rsub,
        aten.rsub.Scalar: rsub,
        aten.mul.Tensor: _binary("Mul"),
        aten.mul.Scalar: _binary("Mul"),
        aten.div.Tensor: _binary("Div"),
        aten.div.Scalar: _binary("Div"),
        aten.div.Tensor_mode: div_mode,
        aten.div.Scalar_mode: div_mode,
        aten.true_divide.Tensor: _binary("Div"),
        aten.floor_divide.default: floor_divide,
        aten.floor_divide.Scalar: floor_divide,
        aten.remainder.Tensor: remainder,
        aten.remainder.Scalar: remainder,
        aten.fmod.Tensor: fmod,
        aten.fmod.Scalar: fmod,
        aten.maximum.default: _binary("Max"),
        aten.minimum.default: _binary("Min"),
        aten.max.other: _binary("Max"),
        aten.min.other: _binary("Min"),
        aten.pow.Tensor_Scalar: pow_,
        aten.pow.Tensor_Tensor: pow_,
        aten.pow.Scalar: pow_,
        aten.square.default: square,
        aten.rsqrt.default: rsqrt,
        aten.log1p.default: log1p,
        aten.log2.default: _log_base(2),
        aten.log10.default: _log_base(10),
        aten.expm1.default: expm1,
        aten.exp2.default: exp2,
        aten.trunc.default: trunc,
        aten.round.default: round_,
        aten.positive.default: positive,
        aten.atan2.default: atan2,
        aten.addcmul.default: addcmul,
        aten.addcdiv.default: addcdiv,
        aten.lerp.Tensor: lerp,
        aten.lerp.Scalar: lerp,
        aten.clamp.default: clamp,
        aten.clamp.Tensor: clamp_tensor,
        aten.clamp_min.default: clamp_min,
        aten.clamp_max.default: clamp_max,
        aten.ne.Tensor: not_equal,
        aten.ne.Scalar: not_equal,
        aten.logical_and.default: _logical("And"),
        aten.logical_or.default: _logical("Or"),
        aten.logical_xor.default: _logical("Xor"),
        aten.logical_not.default: logical_not,
        aten.bitwise_and.Tensor: _bitwise("And"),
        aten.bitwise_or.Tensor: _bitwise("Or"),
        aten.bitwise_xor.Tensor: _bitwise("Xor"),
        aten.__and__.Tensor: _bitwise("And"),
        aten.__or__.Tensor: _bitwise("Or"),
        aten.__xor__.Tensor: _bitwise("Xor"),
        aten.bitwise_not.default: bitwise_not,
        aten.isinf.default: isinf,
        aten.isnan.default: isnan,
        aten.where.self: where,
        aten.where.ScalarSelf: where,
        aten.where.ScalarOther: where,
        aten.where.Scalar: where,
        aten.masked_fill.Scalar: masked_fill,
        aten.masked_fill.Tensor: masked_fill,
        aten._to_copy.default: cast_to,
        aten.to.dtype: cast_to,
        aten.to.dtype_layout: cast_to,
        aten.to.device: cast_to,
        aten.type_as.default: cast_as,
        aten.to.other: cast_as,
        aten.clone.default: same,
        aten.alias.default: same,
        aten.detach.default: same,
        aten.contiguous.default: same,
        aten.lift_fresh_copy.default: same,
        aten.dropout.default: dropout,
        aten.feature_dropout.default: dropout,
        aten.alpha_dropout.default: dropout,
    }
)
