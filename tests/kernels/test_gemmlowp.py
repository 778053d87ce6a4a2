"""The fixed-point requantization against exact rational arithmetic on Python integers, and published examples."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fxc.compiler.errors import InputError, LegalityError
from fxc.kernels.reference.gemmlowp import (
    doubling_high_mul,
    quantize_multiplier,
    requantize_fixed_point,
    rounding_divide_by_power,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
HALF = Fraction(1, 2)


def half_up(value: Fraction) -> int:
    return floor(value + HALF)


def half_away(value: Fraction) -> int:
    return floor(value + HALF) if value >= 0 else -floor(-value + HALF)


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul: a * b / 2^31, rounded half up, never above INT32_MAX."""
    return min(half_up(Fraction(a * b, 2**31)), 2**31 - 1)


@pytest.mark.parametrize(
    ("multiplier", "expected"),
    [
        (0.25, (1 << 30, -1)),
        (0.5, (1 << 30, 0)),
        (0.75, (1610612736, 0)),
        (1 - 1e-9, (2147483646, 0)),
        (1 + 1e-9, (1073741825, 1)),
        (1.25, (1342177280, 1)),
        (2.0, (1 << 30, 2)),
        (2.0**-31, (1 << 30, -30)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (1 - 2.0**-40, (1 << 30, 1)),
    ],
)
def test_published_multipliers(multiplier: float, expected: tuple[int, int]) -> None:
    """The values of tensorflow/lite/kernels/internal/quantization_util_test.cc, and a mantissa that rounds to 2^31."""
    assert quantize_multiplier(multiplier) == expected


@given(st.floats(2.0**-31, 2.0**29))
@settings(max_examples=300, deadline=None)
def test_the_mantissa_is_the_nearest(multiplier: float) -> None:
    mantissa, shift = quantize_multiplier(multiplier)
    assert 2**30 <= mantissa < 2**31
    assert abs(mantissa * Fraction(2) ** (shift - 31) - Fraction(multiplier)) <= Fraction(2) ** (shift - 32)


@given(INT32, INT32)
@example(-(2**31), -(2**31))
@example(2**30, 1)
@example(-(2**30), 1)
@example(-3 * 2**29, 2)
@settings(max_examples=300, deadline=None)
def test_doubling_high_mul(a: int, b: int) -> None:
    assert int(doubling_high_mul(np.array([a]), np.array([b]))[0]) == high_mul(a, b)


@given(INT32, st.integers(0, 31))
@example(-(2**31), 31)
@example(-3, 1)
@example(3, 1)
@settings(max_examples=300, deadline=None)
def test_rounding_divide_by_power(x: int, exponent: int) -> None:
    got = rounding_divide_by_power(np.array([x]), np.array([exponent]))
    assert int(got[0]) == half_away(Fraction(x, 2**exponent))


multipliers = st.one_of(st.floats(2.0**-36, 1.0), st.integers(1, 255).map(lambda k: k / 256))


@given(acc=INT32, multiplier=multipliers, zero=st.integers(-128, 127))
@settings(max_examples=400, deadline=None)
def test_double_rounding(acc: int, multiplier: float, zero: int) -> None:
    mantissa, shift = quantize_multiplier(multiplier)
    assume(shift <= 0)
    want = half_away(Fraction(high_mul(acc, mantissa), 2**-shift)) + zero
    got = requantize_fixed_point(np.array([acc]), multiplier, zero)
    assert int(got[0]) == min(max(want, -128), 127)


@given(acc=INT32, multiplier=st.one_of(multipliers, st.floats(1.0, 100.0)), zero=st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_single_rounding(acc: int, multiplier: float, zero: int) -> None:
    mantissa, shift = quantize_multiplier(multiplier)
    want = half_up(acc * mantissa * Fraction(2) ** (shift - 31)) + zero
    got = requantize_fixed_point(np.array([acc]), multiplier, zero, dtype=np.uint8, variant="single")
    assert int(got[0]) == min(max(want, 0), 255)


@given(acc=st.integers(-(2**20), 2**20), multiplier=st.floats(1.0, 500.0))
@settings(max_examples=200, deadline=None)
def test_multipliers_above_one_shift_left_first(acc: int, multiplier: float) -> None:
    mantissa, shift = quantize_multiplier(multiplier)
    want = high_mul(acc * 2**shift, mantissa)
    got = requantize_fixed_point(np.array([acc]), multiplier, dtype=np.int32)
    assert int(got[0]) == want


def test_ties_tell_the_two_variants_apart() -> None:
    """A shift of zero leaves only the high product, which rounds half up; a right shift rounds half away."""
    halves, quarters = np.array([-3, -1, 1, 3]), np.array([-6, -2, 2, 6])
    assert requantize_fixed_point(halves, 0.5).tolist() == [-1, 0, 1, 2]
    assert requantize_fixed_point(quarters, 0.25).tolist() == [-2, -1, 1, 2]
    assert requantize_fixed_point(quarters, 0.25, variant="single").tolist() == [-1, 0, 1, 2]


def test_one_multiplier_per_channel() -> None:
    acc = np.random.default_rng(0).integers(-50_000, 50_000, (2, 3, 4))
    factors = np.array([0.001, 0.25, 0.0071])
    together = requantize_fixed_point(acc, factors, 4, axis=1)
    alone = np.stack([requantize_fixed_point(acc[:, c], factors[c], 4) for c in range(3)], axis=1)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf"), 2.0**31])
def test_multipliers_without_a_fixed_point_form(multiplier: float) -> None:
    with pytest.raises(InputError):
        quantize_multiplier(multiplier)


def test_overflows_are_errors() -> None:
    with pytest.raises(LegalityError):
        requantize_fixed_point(np.array([2**31]), 0.5)
    with pytest.raises(LegalityError):
        requantize_fixed_point(np.array([2**30]), 4.0)
