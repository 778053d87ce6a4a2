"""Operators that work element by element.

Operators with a domain get an argument inside it (the logarithm reads ``|x| + 0.5``), so that nothing is discarded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random.choices import Choices
from tests.random.op import (
    Op,
    Params,
    axis,
    broadcasts,
    has_axes,
    image,
    is_float,
    layer,
    same,
    same_shape,
    truth,
    whole,
)

NUMBERS = (0.5, 1.0, -0.25, 2.0, 0.7, -1.5, 3.0)


def _number(c: Choices, *_: Tensor) -> Params:
    return {"k": c.pick(NUMBERS)}


def _slope(c: Choices, *_: Tensor) -> Params:
    return {"k": c.pick((0.1, 0.01, 0.3))}


def _range(c: Choices, *_: Tensor) -> Params:
    return {"low": c.pick((0.0, -0.5, -1.0)), "high": c.pick((1.0, 0.6, 6.0))}


def _even_axis(c: Choices, x: Tensor) -> Params | None:
    found = axis(c, x)
    return found if x.shape[found["dim"]] % 2 == 0 else None


def _channels(c: Choices, x: Tensor) -> Params:
    return {"num_parameters": c.pick((1, x.shape[1]))}


def _quiet(x: Tensor) -> Tensor:
    return 0.9 * torch.tanh(x)


TWO = (is_float, broadcasts)
THREE = (is_float, broadcasts, broadcasts)
ROWS = (has_axes,)

ACTIVATIONS = {
    "relu": Op(lambda x: x.relu(), weight=14),
    "relu_module": layer(nn.ReLU, lambda c, x: {"inplace": c.chance(30)}, is_float, weight=6),
    "relu6": layer(nn.ReLU6, lambda c, x: {}, is_float, weight=5),
    "hardtanh": Op(lambda x, low, high: F.hardtanh(x, low, high), _range),
    "sigmoid": Op(torch.sigmoid, weight=5),
    "logsigmoid": Op(F.logsigmoid),
    "tanh": Op(torch.tanh, weight=4),
    "leaky_relu": Op(lambda x, k: F.leaky_relu(x, k), _slope, weight=4),
    "elu": Op(lambda x, k: F.elu(x, k), _slope),
    "selu": Op(F.selu),
    "celu": Op(lambda x, k: F.celu(x, k), _slope),
    "hardsigmoid": Op(F.hardsigmoid, weight=4),
    "hardswish": Op(F.hardswish, weight=5),
    "silu": Op(F.silu, weight=5),
    "mish": Op(F.mish),
    "softplus": Op(F.softplus),
    "gelu": Op(F.gelu, weight=4),
    "gelu_tanh": Op(lambda x: F.gelu(x, approximate="tanh")),
    "threshold": Op(lambda x, k: F.threshold(x, 0.1, k), _number, jumps=True),
    "hardshrink": Op(F.hardshrink, jumps=True),
    "softshrink": Op(F.softshrink),
    "tanhshrink": Op(F.tanhshrink),
    "softsign": Op(F.softsign),
    "rrelu": layer(nn.RReLU, lambda c, x: {}, is_float, weight=1),
    "prelu": layer(nn.PReLU, _channels, has_axes, weight=2),
    "glu": Op(lambda x, dim: F.glu(x, dim), _even_axis, ROWS),
    "softmax": Op(lambda x, dim: x.softmax(dim), axis, ROWS, weight=4),
    "softmin": Op(lambda x, dim: F.softmin(x, dim), axis, ROWS),
    "log_softmax": Op(lambda x, dim: F.log_softmax(x, dim), axis, ROWS),
    "dropout": layer(nn.Dropout, lambda c, x: {"p": 0.5}, is_float, weight=3),
    "feature_dropout": layer(nn.Dropout2d, lambda c, x: {}, image, weight=2),
    # Spellings that passes put together again.
    "silu_by_hand": Op(lambda x: x * x.sigmoid()),
    "hardswish_by_hand": Op(lambda x: x * F.relu6(x + 3) / 6),
    "hardsigmoid_by_hand": Op(lambda x: (x + 3).clamp(0, 6) / 6),
    "gelu_by_hand": Op(lambda x: 0.5 * x * (1 + torch.erf(x * 0.7071067811865476))),
}

UNARY = {
    "abs": Op(torch.abs),
    "neg": Op(torch.neg),
    "exp": Op(lambda x: _quiet(x).exp()),
    "exp2": Op(lambda x: _quiet(x).exp2()),
    "expm1": Op(lambda x: _quiet(x).expm1()),
    "log": Op(lambda x: (x.abs() + 0.5).log()),
    "log2": Op(lambda x: (x.abs() + 0.5).log2()),
    "log10": Op(lambda x: (x.abs() + 0.5).log10()),
    "log1p": Op(lambda x: x.abs().log1p()),
    "sqrt": Op(lambda x: (x.abs() + 0.2).sqrt()),
    "rsqrt": Op(lambda x: (x.abs() + 0.2).rsqrt()),
    "reciprocal": Op(lambda x: (x.abs() + 0.3).reciprocal()),
    "square": Op(torch.square),
    "sin": Op(torch.sin),
    "cos": Op(torch.cos),
    "tan": Op(lambda x: _quiet(x).tan()),
    "asin": Op(lambda x: _quiet(x).asin()),
    "acos": Op(lambda x: _quiet(x).acos()),
    "atan": Op(torch.atan),
    "sinh": Op(lambda x: _quiet(x).sinh()),
    "cosh": Op(lambda x: _quiet(x).cosh()),
    "asinh": Op(torch.asinh),
    "acosh": Op(lambda x: (x.abs() + 1.2).acosh()),
    "atanh": Op(lambda x: _quiet(x).atanh()),
    "erf": Op(torch.erf),
    "floor": Op(lambda x: (2 * x).floor(), jumps=True),
    "ceil": Op(lambda x: (2 * x).ceil(), jumps=True),
    "round": Op(lambda x: (2 * x).round(), jumps=True),
    "trunc": Op(lambda x: (2 * x).trunc(), jumps=True),
    "sign": Op(torch.sign, jumps=True),
    "clamp": Op(lambda x, low, high: x.clamp(low, high), _range, weight=3),
    "clamp_min": Op(lambda x, k: x.clamp(min=k), _number),
    "clamp_max": Op(lambda x, k: x.clamp(max=k), _number),
    "clamp_overloads": Op(lambda x: torch.clamp_max(torch.clamp_min(x, -0.5), 0.8)),
    "pow_scalar": Op(
        lambda x, k: (x.abs() + 0.2) ** k, lambda c, x: {"k": c.pick((0.5, 2, 3, 1.7, -1, -0.5))}
    ),
    "pow_even": Op(lambda x: x**2),
    "pow_base": Op(lambda x: 2 ** _quiet(x)),
    "cast_twice": Op(lambda x: (4 * x).int().float(), jumps=True),
    "to_long": Op(lambda x: (4 * x).long(), jumps=True),
    "to_same": Op(lambda x: x.to(torch.float32).contiguous().clone().detach(), weight=3),
    "positive": Op(torch.positive, weight=1),
    "in_place": Op(lambda x: (x * 1).add_(0.5).mul_(2).relu_()),
    "masked_fill": Op(lambda x, k: x.masked_fill(x < 0, k), _number, jumps=True),
    "where_zero": Op(lambda x: torch.where(x > 0, x, -0.1 * x)),
    "like": Op(lambda x: torch.ones_like(x) + x * torch.full_like(x, 0.5) - torch.zeros_like(x)),
    "isnan": Op(lambda x: torch.isnan(x) | torch.isinf(x)),
}

ARITHMETIC = {
    "add": Op(lambda x, y: x + y, accepts=TWO, weight=16),
    "add_alpha": Op(lambda x, y, k: torch.add(x, y, alpha=k), _number, TWO),
    "add_scalar": Op(lambda x, k: x + k, _number, weight=4),
    "radd": Op(lambda x, k: k + x, _number),
    "sub": Op(lambda x, y: x - y, accepts=TWO, weight=4),
    "sub_scalar": Op(lambda x, k: x - k, _number),
    "rsub": Op(lambda x, k: k - x, _number),
    "rsub_alpha": Op(lambda x: torch.rsub(x, 2.0, alpha=0.5)),
    "mul": Op(lambda x, y: x * y, accepts=TWO, weight=10),
    "mul_scalar": Op(lambda x, k: x * k, _number, weight=4),
    "div": Op(lambda x, y: x / (y.abs() + 0.5), accepts=TWO, weight=4),
    "div_scalar": Op(lambda x, k: x / k, _number, weight=3),
    "rdiv": Op(lambda x, k: k / (x.abs() + 0.5), _number),
    "div_floor": Op(lambda x, y: torch.div(x, y.abs() + 0.5, rounding_mode="floor"), accepts=TWO, jumps=True),
    "div_trunc": Op(lambda x: torch.div(x, 0.3, rounding_mode="trunc"), jumps=True),
    "floor_divide": Op(lambda x: x // 0.7, jumps=True),
    "remainder": Op(lambda x: x % 0.7, jumps=True),
    "remainder_tensor": Op(lambda x, y: x % (y.abs() + 0.5), accepts=TWO, jumps=True),
    "fmod": Op(lambda x: torch.fmod(x, 0.7), jumps=True),
    "maximum": Op(torch.maximum, accepts=TWO, weight=3),
    "minimum": Op(torch.minimum, accepts=TWO, weight=3),
    "pow_tensor": Op(lambda x, y: torch.pow(x.abs() + 0.3, _quiet(y)), accepts=TWO),
    "atan2": Op(lambda x, y: torch.atan2(x, y.abs() + 0.5), accepts=TWO),
    "lerp": Op(lambda x, y: torch.lerp(x, y, 0.3), accepts=TWO),
    "lerp_tensor": Op(lambda x, y, z: torch.lerp(x, y, z.sigmoid()), accepts=THREE),
    "addcmul": Op(lambda x, y, z: torch.addcmul(x, y, z, value=0.5), accepts=THREE),
    "addcdiv": Op(lambda x, y, z: torch.addcdiv(x, y, z.abs() + 0.5, value=0.5), accepts=THREE),
    "clamp_tensor": Op(lambda x, y: torch.clamp(x, -y.abs(), y.abs() + 0.1), accepts=TWO),
    "mean_of_two": Op(lambda x, y: (x + y) / 2, accepts=(is_float, same), weight=3),
}

_COMPARE = (torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne)


def _comparison(c: Choices, *_: Tensor) -> Params:
    return {"how": c.integer(0, 5)}


def _logic(how: int, x: Tensor, y: Tensor) -> Tensor:
    return (x & y, x | y, x ^ y, torch.logical_and(x, y), torch.logical_or(x, y), torch.logical_xor(x, y))[
        how
    ]


LOGIC = {
    "compare": Op(lambda x, y, how: _COMPARE[how](x, y), _comparison, TWO, weight=10, jumps=True),
    "compare_scalar": Op(lambda x, how, k: _COMPARE[how](x, k), lambda c, x: {**_comparison(c), **_number(c)}, weight=14, jumps=True),
    "logic": Op(lambda x, y, how: _logic(how, x, y), _comparison, (truth, same), weight=8),
    "not": Op(lambda x, bit: ~x if bit else torch.logical_not(x), lambda c, x: {"bit": c.chance(50)}, (truth,), weight=4),
    "where": Op(lambda m, x, y: torch.where(m, x, y), accepts=(truth, lambda t, s: t.is_floating_point() and same_shape(t, s), lambda t, s: broadcasts(t, s[1:])), weight=10),
    "where_scalar": Op(lambda m, k: torch.where(m, k, 0.25), _number, (truth,), weight=4),
    "fill_mask": Op(lambda m, x, k: x.masked_fill(m, k), _number, (truth, lambda t, s: t.is_floating_point() and same_shape(t, s)), weight=6),
    "truth_to_float": Op(lambda m: m.float(), accepts=(truth,), weight=6),
    "truth_times": Op(lambda m, x: m * x, accepts=(truth, lambda t, s: t.is_floating_point() and same_shape(t, s)), weight=4),
    "any": Op(lambda m, dim: m.any(dim), axis, (truth,), weight=4),
    "all": Op(lambda m, dim: m.all(dim), axis, (truth,), weight=4),
    "any_all": Op(lambda m: m.flatten(1).any(1) & m.flatten(1).all(1), accepts=(truth,), weight=2),
    "count": Op(lambda m, dim: m.sum(dim), axis, (truth,), weight=4),
    "whole_arithmetic": Op(lambda n: n // 3 + n % 3 - 2 * n, accepts=(whole,), weight=3),
    "whole_to_float": Op(lambda n: n.float() * 0.125, accepts=(whole,), weight=8),
    "whole_divided": Op(lambda n: n / 4, accepts=(whole,), weight=4),
    "whole_compare": Op(lambda n: n > 1.5, accepts=(whole,), weight=3),
    "whole_plus_float": Op(lambda x: x + (x * 4).int() / 4, jumps=True),
    "one_hot": Op(lambda n: F.one_hot(n.long().clamp(0, 4), 5).float(), accepts=(whole,), weight=4),
}  # fmt: skip

OPS = {**ACTIVATIONS, **UNARY, **ARITHMETIC, **LOGIC}
