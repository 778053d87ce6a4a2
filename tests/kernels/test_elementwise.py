"""Sums, products and concatenations against ONNX Runtime's fused kernels, and how those differ from the Q/DQ graph."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fxc.kernels.reference import Coded, add, concat, mul, qlinear_add, qlinear_mul
from fxc.kernels.reference.elementwise import fused_multiply_add
from tests.kernels.ort_ops import MICROSOFT, ON_X86, codes, exact_ties, run_op, zero_point

x86_kernel = pytest.mark.skipif(not ON_X86, reason="the rule of the x86 kernel; ARM's is fixed-point")
DTYPES = [np.uint8, np.int8]


def scales(rng: np.random.Generator, kind: str) -> tuple[float, float, float]:
    """(s_a, s_b, s_y): powers of two (ties are exact), small ratios (ties up to float32 error), or anything."""
    if kind == "power_of_two":
        a, b, y = 2.0 ** rng.integers(-6, 0, 3)
    elif kind == "ratio":
        a, b, y = np.exp(rng.uniform(-6, 0)) * np.array([1, 1, 2]) * rng.integers(1, 12, 3)
    else:
        a, b, y = np.exp(rng.uniform(-5, 0, 3))
    return float(np.float32(a)), float(np.float32(b)), float(np.float32(y))


def fused(op: str, a: Coded, b: Coded, y_scale: float, y_zero: int, dtype: Any) -> np.ndarray:
    """ONNX Runtime's answer for QLinearAdd or QLinearMul."""
    pairs = [[p.codes, np.float32(p.scale), zero_point(dtype, p.zero_point)] for p in (a, b)]
    return run_op(
        op, [*pairs[0], *pairs[1], np.float32(y_scale), zero_point(dtype, y_zero)], dtype, domain=MICROSOFT
    )


def cases(
    kind: str, dtype: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]], count: int = 40
) -> list[tuple[Coded, Coded, float, int]]:
    """Random operands with output scale and zero point."""
    rng = np.random.default_rng(len(kind) + np.iinfo(dtype).max)
    drawn = []
    for _ in range(count):
        s_a, s_b, s_y = scales(rng, kind)
        zeros = [int(z) for z in codes(rng, dtype, 3)]
        left, right = (
            Coded(codes(rng, dtype, *shapes[0]), s_a, zeros[0]),
            Coded(codes(rng, dtype, *shapes[1]), s_b, zeros[1]),
        )
        drawn.append((left, right, s_y, zeros[2]))
    return drawn


@x86_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["power_of_two", "ratio", "any"])
def test_qlinear_add(kind: str, dtype: Any) -> None:
    for a, b, s_y, zero in cases(kind, dtype, ((1009,), (1009,))):
        want = fused("QLinearAdd", a, b, s_y, zero, dtype)
        np.testing.assert_array_equal(qlinear_add(a, b, s_y, zero, dtype=dtype), want)


@x86_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 4, 1, 1), (2, 4, 5, 6)),
        ((2, 4, 5, 6), (1, 4, 1, 1)),
        ((2, 4, 5, 6), (5, 6)),
        ((2, 1, 5, 6), (2, 4, 5, 6)),
        ((1,), (300,)),
        ((300,), (1,)),
    ],
)
def test_qlinear_add_broadcasts(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: Any) -> None:
    for a, b, s_y, zero in cases("ratio", dtype, shapes):
        want = fused("QLinearAdd", a, b, s_y, zero, dtype)
        np.testing.assert_array_equal(qlinear_add(a, b, s_y, zero, dtype=dtype), want)


@x86_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["power_of_two", "ratio", "any"])
@pytest.mark.parametrize("shapes", [((1009,), (1009,)), ((2, 4, 5, 6), (2, 4, 1, 1))])
def test_qlinear_mul(shapes: tuple[tuple[int, ...], tuple[int, ...]], kind: str, dtype: Any) -> None:
    for a, b, s_y, zero in cases(kind, dtype, shapes):
        wide = s_y * 32
        want = fused("QLinearMul", a, b, wide, zero, dtype)
        np.testing.assert_array_equal(qlinear_mul(a, b, wide, zero, dtype=dtype), want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("graph", "kernel", "widen"), [(add, qlinear_add, 1), (mul, qlinear_mul, 32)])
def test_fused_and_graph_part_on_ties_with_an_odd_zero_point(
    graph: Any, kernel: Any, widen: int, dtype: Any
) -> None:
    """With power-of-two scales everything before the rounding is exact, so the rounding alone is compared."""
    ties = 0
    for a, b, s_y, zero in cases("power_of_two", dtype, ((1009,), (1009,))):
        y = s_y * widen
        exact = a.real() + b.real() if graph is add else a.real() * b.real()
        tie = np.abs(np.modf(exact / np.float32(y))[0]) == 0.5
        ours, fused_code = (f(a, b, y, zero, dtype=dtype).astype(int) for f in (graph, kernel))
        inside = (ours > np.iinfo(dtype).min) & (ours < np.iinfo(dtype).max)
        differ = ours != fused_code
        assert not np.any(differ & ~tie)
        np.testing.assert_array_equal(differ[inside], (tie & bool(zero % 2))[inside])
        assert np.abs(ours - fused_code).max() <= 1
        ties += exact_ties(exact[inside] / np.float32(y))
    assert ties > 200


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("graph", "kernel", "widen"), [(add, qlinear_add, 1), (mul, qlinear_mul, 32)])
def test_fused_and_graph_seldom_part_elsewhere(graph: Any, kernel: Any, widen: int, dtype: Any) -> None:
    differ = total = 0
    for a, b, s_y, zero in cases("any", dtype, ((1009,), (1009,))):
        gap = np.abs(
            graph(a, b, s_y * widen, zero, dtype=dtype).astype(int)
            - kernel(a, b, s_y * widen, zero, dtype=dtype).astype(int)
        )
        assert gap.max() <= 1
        differ, total = differ + int(np.count_nonzero(gap)), total + int(gap.size)
    assert differ / total < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["power_of_two", "ratio", "any"])
def test_concat_is_qlinear_concat(kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        s_a, s_b, s_y = scales(rng, kind)
        zeros = [int(z) for z in codes(rng, dtype, 3)]
        parts = [
            Coded(codes(rng, dtype, 2, 30, 4), s_a, zeros[0]),
            Coded(codes(rng, dtype, 2, 50, 4), s_b, zeros[1]),
            Coded(codes(rng, dtype, 2, 2, 4), s_y, zeros[2]),
        ]
        inputs = [v for p in parts for v in (p.codes, np.float32(p.scale), zero_point(dtype, p.zero_point))]
        head = [np.float32(s_y), zero_point(dtype, zeros[2])]
        want = run_op("QLinearConcat", [*head, *inputs], dtype, domain=MICROSOFT, axis=1)
        np.testing.assert_array_equal(concat(parts, s_y, zeros[2], dtype=dtype), want)


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to an exact value, ties to the even mantissa, by comparing neighbours."""
    guess = np.float32(float(value))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    gaps = [abs(Fraction(float(c)) - value) for c in around]
    best = [c for c, gap in zip(around, gaps) if gap == min(gaps)]
    return best[0] if len(best) == 1 else next(c for c in best if int(c.view(np.int32)) % 2 == 0)


normal = st.floats(2.0**-20, 2.0**20, width=32).flatmap(lambda v: st.sampled_from([v, -v]))


@given(normal, normal, normal)
@example(1 + 2.0**-23, 1 + 2.0**-23, 2.0**-10)
@example(1 + 2.0**-12, 1 - 2.0**-12, 2.0**-20)
@example(1.0, 2.0**-24 * (1 + 2.0**-20), 1.0)
@example(4097.0, 4097.0, -(2.0**-20))
@example(4097.0, 4095.0, 2.0**-20)
@settings(max_examples=400, deadline=None)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float) -> None:
    want = nearest_float32(Fraction(a) * Fraction(b) + Fraction(c))
    assert fused_multiply_add(a, b, c) == want


def test_fused_multiply_add_where_two_roundings_go_wrong() -> None:
    """4097 * 4097 is halfway between two float32 values; the tiny addend decides, and plain float64 loses it."""
    a, c = np.float32(4097), np.float32(2.0**-30)
    assert float(fused_multiply_add(a, a, c)) == 16785410.0
    assert float(fused_multiply_add(a, a, -c)) == 16785408.0
    assert np.float32(float(a) * float(a) + float(c)) == np.float32(float(a) * float(a) - float(c))
