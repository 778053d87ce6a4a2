"""A use or more of every MIL operator that the evaluator has, for the oracle tests and the mutants."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.backends.coreml import loops
from tests.backends.coreml.made import Array, Case

_chance = np.random.default_rng(0)


def rand(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    return _chance.uniform(low, high, shape).astype(np.float32)


def ints(*shape: int, low: int = -9, high: int = 9) -> Array:
    return _chance.integers(low, high, shape).astype(np.int32)


IMAGE = rand(2, 4, 7, 6)
CHANNELS = np.array([0.3, -0.5, 1.4, 2.0], np.float32)
POSITIVE = np.array([0.3, 0.5, 1.4, 2.0], np.float32)


def activations() -> list[Case]:
    plain = ("relu", "sigmoid", "softplus", "softsign", "tanh")
    found = [Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x), (IMAGE,)) for op in plain]
    alpha = ("elu", "leaky_relu", "thresholded_relu")
    found += [Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, alpha=0.3), (IMAGE,)) for op in alpha]
    both = ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")
    found += [
        Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, alpha=0.3, beta=0.7), (IMAGE,)) for op in both
    ]
    found += [
        Case("gelu", lambda mb, x, m=m: mb.gelu(x=x, mode=m), (IMAGE,))
        for m in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    ]
    return [
        *found,
        Case("relu6", lambda mb, x: mb.relu6(x=x), (5 * IMAGE,)),
        Case("silu", lambda mb, x: mb.silu(x=x), (IMAGE,), lambda x: x / (1 + np.exp(-x))),
        Case("prelu", lambda mb, x: mb.prelu(x=x, alpha=CHANNELS), (IMAGE,)),
        Case("softmax", lambda mb, x: mb.softmax(x=x, axis=1), (IMAGE,)),
        Case("softmax", lambda mb, x: mb.softmax(x=x), (IMAGE,)),
        Case(
            "softplus_parametric",
            lambda mb, x: mb.softplus_parametric(x=x, alpha=CHANNELS, beta=POSITIVE),
            (IMAGE,),
        ),
    ]


def elementwise() -> list[Case]:
    binary = ("add", "sub", "mul", "real_div", "maximum", "minimum")
    compare = ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal")
    x, y = IMAGE, rand(4, 1, 6, low=0.5)
    whole, other = ints(3, 5), ints(3, 5, low=1)
    found = [Case(op, lambda mb, x, y, op=op: getattr(mb, op)(x=x, y=y), (x, y)) for op in binary]
    found += [
        Case(op, lambda mb, x, y, op=op: getattr(mb, op)(x=x, y=y), (whole, other))
        for op in ("add", "mul", "sub")
    ]
    found += [
        Case(op, lambda mb, x, y, op=op: getattr(mb, op)(x=x, y=y), (whole, whole[::-1].copy()))
        for op in compare
    ]
    found += [
        Case(op, lambda mb, x, y, op=op: getattr(mb, op)(x=x, y=y), (x, y)) for op in ("floor_div", "mod")
    ]
    found += [
        Case(op, lambda mb, x, y, op=op: getattr(mb, op)(x=x, y=y), (whole, other))
        for op in ("floor_div", "mod")
    ]
    logic = ("logical_and", "logical_or", "logical_xor")
    found += [
        Case(op, lambda mb, a, b, op=op: _logic(mb, op, a, b), (whole, other), _truth(op)) for op in logic
    ]
    return [
        *found,
        Case("pow", lambda mb, x, y: mb.pow(x=x, y=y), (np.abs(x) + 0.1, y)),
        Case(
            "select",
            lambda mb, c, a, b: mb.select(cond=mb.greater(x=c, y=np.float32(0)), a=a, b=b),
            (IMAGE, rand(2, 4, 7, 6), rand(2, 4, 7, 6)),
            lambda c, a, b: np.where(c > 0, a, b),
        ),
    ]


def _logic(mb: Any, op: str, a: Any, b: Any) -> Any:
    zero, four = np.int32(0), np.int32(4)
    return getattr(mb, op)(x=mb.greater(x=a, y=zero), y=mb.greater(x=b, y=four))


def _truth(op: str) -> Any:
    return lambda a, b: getattr(np, op)(a > 0, b > 4)


def unary() -> list[Case]:
    plain = (
        "abs",
        "atan",
        "ceil",
        "cos",
        "cosh",
        "erf",
        "exp",
        "exp2",
        "floor",
        "round",
        "sign",
        "sin",
        "sinh",
        "square",
        "tan",
        "identity",
    )
    found = [Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x), (rand(3, 5),)) for op in plain]
    inner = ("acos", "asin", "atanh")
    found += [
        Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x), (rand(3, 5, low=-0.9, high=0.9),)) for op in inner
    ]
    positive = rand(3, 5, low=0.1)
    found += [
        Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, epsilon=np.float32(0.2)), (positive,))
        for op in ("inverse", "log", "rsqrt")
    ]
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    return [
        *found,
        Case("sqrt", lambda mb, x: mb.sqrt(x=x), (positive,)),
        Case("round", lambda mb, x: mb.round(x=x), (halves,)),
        Case("abs", lambda mb, x: mb.abs(x=x), (ints(4),)),
        Case("clip", lambda mb, x: mb.clip(x=x, alpha=-0.5, beta=0.8), (rand(3, 5),)),
        Case("threshold", lambda mb, x: mb.threshold(x=x, alpha=0.4), (rand(3, 5),)),
        Case(
            "logical_not",
            lambda mb, x: mb.logical_not(x=mb.greater(x=x, y=np.float32(0))),
            (rand(9),),
            lambda x: x <= 0,
        ),
        Case("cast", lambda mb, x: mb.cast(x=x, dtype="int32"), (3 * rand(9),)),
        Case("cast", lambda mb, x: mb.cast(x=x, dtype="bool"), (np.array([0, 0.5, -2], np.float32),)),
        Case("cast", lambda mb, x: mb.cast(x=x, dtype="fp32"), (ints(9),)),
    ]


def reductions() -> list[Case]:
    names = (
        "l1_norm",
        "l2_norm",
        "max",
        "mean",
        "min",
        "prod",
        "sum",
        "sum_square",
        "log_sum_exp",
        "log_sum",
    )
    found = []
    for name in names:
        op, x = f"reduce_{name}", rand(2, 3, 4, low=0.2)
        found.append(Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, axes=[-1, 0], keep_dims=False), (x,)))
        found.append(Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, axes=[1], keep_dims=True), (x,)))
    for op in ("reduce_argmax", "reduce_argmin"):
        found.append(
            Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, axis=1, keep_dims=True), (rand(2, 5, 3),))
        )
        found.append(
            Case(op, lambda mb, x, op=op: getattr(mb, op)(x=x, axis=-2, keep_dims=False), (rand(2, 5, 3),))
        )
    return found


def norms() -> list[Case]:
    mean, variance, beta = rand(4), rand(4, low=0.2), rand(4)
    inner = rand(7, 6)
    return [
        Case(
            "batch_norm",
            lambda mb, x: mb.batch_norm(
                x=x, mean=mean, variance=variance, gamma=CHANNELS, beta=beta, epsilon=np.float32(0.1)
            ),
            (IMAGE,),
            lambda x: loops.batch_norm(x, mean, variance, CHANNELS, beta, 0.1),
        ),
        Case(
            "instance_norm",
            lambda mb, x: mb.instance_norm(x=x, gamma=CHANNELS, beta=beta, epsilon=np.float32(0.1)),
            (IMAGE,),
            lambda x: loops.instance_norm(x, CHANNELS, beta, 0.1),
        ),
        Case("l2_norm", lambda mb, x: mb.l2_norm(x=x, epsilon=np.float32(0.5)), (IMAGE,)),
        Case(
            "layer_norm",
            lambda mb, x: mb.layer_norm(
                x=x, axes=[2, 3], gamma=inner, beta=inner[::-1].copy(), epsilon=np.float32(0.1)
            ),
            (IMAGE,),
        ),
        Case(
            "layer_norm",
            lambda mb, x: mb.layer_norm(x=x, axes=[1], gamma=CHANNELS, beta=beta, epsilon=np.float32(0.1)),
            (IMAGE,),
        ),
        Case(
            "local_response_norm",
            lambda mb, x: mb.local_response_norm(
                x=x, size=3, alpha=np.float32(0.4), beta=np.float32(0.6), k=np.float32(1.5)
            ),
            (IMAGE,),
            lambda x: loops.local_response_norm(x, 3, 0.4, 0.6, 1.5),
        ),
    ]


CASES = [*activations(), *elementwise(), *unary(), *reductions(), *norms()]
