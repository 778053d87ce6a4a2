"""requantize against ONNX Runtime's integer epilogue, with accumulators placed at will.

QGemm adds an int32 bias to the sum of products: with an all-zero left operand the accumulator *is* the bias, so any
accumulator can be put before any multiplier.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxc.compiler.errors import LegalityError
from fxc.kernels.reference.requantize import output_multiplier, requantize
from tests.kernels.ort_ops import MICROSOFT, exact_ties, run_op, zero_point


def ort_requantize(acc: np.ndarray, scales: tuple[Any, Any, Any], zero: int, dtype: Any) -> np.ndarray:
    """ONNX Runtime's codes for accumulators [M, N] under (s_a, s_b, s_y); s_b one value or [N]."""
    a, b = np.zeros((acc.shape[0], 4), dtype), np.zeros((4, acc.shape[1]), np.int8)
    s_a, s_b, s_y = (np.asarray(s, np.float32) for s in scales)
    inputs = [a, s_a, zero_point(dtype, 0), b, s_b, np.zeros(s_b.shape, np.int8), acc.astype(np.int32), s_y]
    return run_op("QGemm", [*inputs, zero_point(dtype, zero)], dtype, domain=MICROSOFT)


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 0), (np.uint8, 131), (np.int8, 0), (np.int8, -7)])
@pytest.mark.parametrize("multiplier", [0.5, 0.25, 2.0**-9, 1.5, 0.1, 0.0123])
def test_every_accumulator_around_zero(multiplier: float, dtype: Any, zero: int) -> None:
    reach = int(400 / multiplier)
    acc = np.arange(-reach, reach, max(1, reach // 40_000)).reshape(1, -1)
    product = acc.astype(np.float32) * np.float32(multiplier)
    if multiplier in (0.5, 0.25, 2.0**-9, 1.5):
        assert exact_ties(product) > 100
    want = ort_requantize(acc, (multiplier, 1, 1), zero, dtype)
    np.testing.assert_array_equal(requantize(acc, multiplier, zero, dtype=dtype), want)
    assert {want.min(), want.max()} == {np.iinfo(dtype).min, np.iinfo(dtype).max}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_accumulators_that_float32_cannot_hold(dtype: Any) -> None:
    """Above 2^24 the conversion to float32 rounds, and moves values onto ties and off them."""
    rng = np.random.default_rng(0)
    middle = (rng.integers(-120, 120, 40_000) * 2 + 1) << 22
    acc = (middle + rng.integers(-9, 10, middle.shape)).reshape(1, -1)
    multiplier = 2.0**-23
    assert np.count_nonzero(acc.astype(np.float32).astype(np.int64) != acc) > 1000
    got = requantize(acc, multiplier, 3, dtype=dtype)
    np.testing.assert_array_equal(got, ort_requantize(acc, (multiplier, 1, 1), 3, dtype))
    exact = np.clip(
        np.rint(acc.astype(np.float64) * multiplier) + 3, np.iinfo(dtype).min, np.iinfo(dtype).max
    )
    assert np.any(got != exact)


def test_one_multiplier_per_channel() -> None:
    rng = np.random.default_rng(1)
    acc = rng.integers(-40_000, 40_000, (200, 16))
    s_b = np.exp(rng.uniform(-8, -4, 16)).astype(np.float32)
    s_b[::4] = 2.0 ** -rng.integers(5, 9, 4)
    want = ort_requantize(acc, (0.5, s_b, 0.25), 11, np.uint8)
    got = requantize(acc, output_multiplier(0.5, s_b, 0.25), 11, dtype=np.uint8, axis=1)
    np.testing.assert_array_equal(got, want)


def test_the_multiplier_is_formed_left_to_right() -> None:
    """(a * b) / y and a * (b / y) differ in the last bit; accumulators where that bit decides tell which is used."""
    s_a, s_b, s_y = np.float32(0.0227), np.float32(0.0107), np.float32(1.0912)
    left, right = (s_a * s_b) / s_y, s_a * (s_b / s_y)
    assert left != right
    acc = np.arange(0, int(200 / left))
    differ = acc[np.rint(acc.astype(np.float32) * left) != np.rint(acc.astype(np.float32) * right)].reshape(
        1, -1
    )
    assert differ.size > 0
    want = ort_requantize(differ, (s_a, s_b, s_y), 0, np.uint8)
    np.testing.assert_array_equal(requantize(differ, output_multiplier(s_a, s_b, s_y), dtype=np.uint8), want)


@given(
    acc=st.integers(-(2**31), 2**31 - 1),
    multiplier=st.one_of(st.floats(2.0**-30, 4.0, width=32), st.integers(0, 30).map(lambda k: 2.0**-k)),
    zero=st.integers(-128, 127),
)
@settings(max_examples=300, deadline=None)
def test_half_away_is_exact_rounding_of_the_float32_product(acc: int, multiplier: float, zero: int) -> None:
    exact = Fraction(float(np.float32(acc) * np.float32(multiplier)))
    away = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    got = requantize(np.array([acc]), multiplier, zero, rounding="half_away")[0]
    assert int(got) == min(max(away + zero, -128), 127)


@given(acc=st.integers(-(2**31), 2**31 - 1), low=st.integers(-128, 0), high=st.integers(1, 127))
@settings(max_examples=100, deadline=None)
def test_a_narrow_range_is_a_clamp(acc: int, low: int, high: int) -> None:
    value = np.array([acc])
    narrow = requantize(value, 0.01, 5, low=low, high=high)
    np.testing.assert_array_equal(narrow, requantize(value, 0.01, 5).clip(low, high))


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_an_int32_overflow_is_an_error(value: int) -> None:
    with pytest.raises(LegalityError, match="int32"):
        requantize(np.array([value]), 0.5)
