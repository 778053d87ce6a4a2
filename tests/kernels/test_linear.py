"""Matrix products against ONNX Runtime's MatMulInteger, QLinearMatMul and QGemm, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxc.compiler.errors import InputError
from fxc.kernels.reference import linear, matmul, output_multiplier, qgemm, qlinear_matmul
from fxc.kernels.reference.linear import EXACT_IN_FLOAT64, exact_matmul
from tests.kernels.ort_ops import MICROSOFT, codes, exact_ties, run_op, weights, zero_point

PAIRS = [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)]


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    sizes=st.tuples(*[st.integers(1, 20)] * 3),
    pair=st.sampled_from([*PAIRS, (np.int8, np.uint8)]),
    per_column=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=80, deadline=None)
def test_matmul_is_matmul_integer(
    lead: list[int], sizes: tuple[int, int, int], pair: tuple[Any, Any], per_column: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, inner, columns = sizes
    a, b = codes(rng, pair[0], *lead, rows, inner), weights(rng, pair[1], inner, columns)
    zero_a = codes(rng, pair[0])
    zero_b = weights(rng, pair[1], columns) if per_column else weights(rng, pair[1])
    want = run_op("MatMulInteger", [a, b, np.asarray(zero_a), np.asarray(zero_b)], np.int32)
    np.testing.assert_array_equal(matmul(a, b, a_zero_point=zero_a, b_zero_point=zero_b), want)


def test_a_zero_point_per_row() -> None:
    """The specification allows it and ONNX Runtime does not: rows one by one are the judge."""
    rng = np.random.default_rng(0)
    a, b, zeros = codes(rng, np.uint8, 5, 16), weights(rng, np.int8, 16, 7), codes(rng, np.uint8, 5)
    got = matmul(a, b, a_zero_point=zeros, b_zero_point=3)
    for row, zero in enumerate(zeros):
        one = [a[row : row + 1], b, np.asarray(zero), np.int8(3)]
        np.testing.assert_array_equal(got[row : row + 1], run_op("MatMulInteger", one, np.int32))


@pytest.mark.parametrize(("a_dtype", "b_dtype"), PAIRS)
@pytest.mark.parametrize("power_of_two", [True, False])
def test_qlinear_matmul_per_column(a_dtype: Any, b_dtype: Any, power_of_two: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = codes(rng, a_dtype, 3, 40, 64), weights(rng, b_dtype, 64, 24) // 16
    exponent = rng.uniform(-2, 2, 24)
    s_b = np.exp2(np.floor(exponent) if power_of_two else exponent).astype(np.float32)
    zero_b = 0 if b_dtype == np.int8 else 8
    s_a, s_y, zero_a, zero_y = np.float32(0.5), np.float32(16 if power_of_two else 17.3), 5, 101
    zeros = (zero_point(a_dtype, zero_a), np.full(24, zero_b, b_dtype), zero_point(a_dtype, zero_y))
    want = run_op(
        "QLinearMatMul", [a, s_a, zeros[0], b, s_b, zeros[1], s_y, zeros[2]], a_dtype, constant=(3, 4, 5)
    )
    got = qlinear_matmul(a, s_a, zero_a, b, s_b, zero_b, s_y, zero_y, dtype=a_dtype)
    np.testing.assert_array_equal(got, want)
    assert (got.min(), got.max()) == (np.iinfo(a_dtype).min, np.iinfo(a_dtype).max)
    if power_of_two:
        acc = matmul(a, b, a_zero_point=zero_a, b_zero_point=zero_b)
        assert exact_ties(acc * output_multiplier(s_a, s_b, s_y)) > 10


@pytest.mark.parametrize(("a_dtype", "b_dtype"), PAIRS)
@pytest.mark.parametrize(("trans_a", "trans_b"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_qgemm(a_dtype: Any, b_dtype: Any, trans_a: bool, trans_b: bool, alpha: float) -> None:
    rng = np.random.default_rng(2)
    a, b = codes(rng, a_dtype, 33, 48), weights(rng, b_dtype, 48, 10)
    a, b = (a.T.copy() if trans_a else a), (b.T.copy() if trans_b else b)
    s_b, bias = (
        np.exp(rng.uniform(-6, -4, 10)).astype(np.float32),
        rng.integers(-9999, 9999, 10).astype(np.int32),
    )
    zero_b, s_a, s_y = 0 if b_dtype == np.int8 else 128, np.float32(0.1), np.float32(1.9)
    inputs = [
        a,
        s_a,
        zero_point(a_dtype, 7),
        b,
        s_b,
        np.full(10, zero_b, b_dtype),
        bias,
        s_y,
        zero_point(a_dtype, 11),
    ]
    flags: dict[str, Any] = {"transA": int(trans_a), "transB": int(trans_b), "alpha": alpha}
    want = run_op("QGemm", inputs, a_dtype, domain=MICROSOFT, **flags)
    got = qgemm(
        a,
        s_a,
        7,
        b,
        s_b,
        zero_b,
        s_y,
        11,
        bias=bias,
        dtype=a_dtype,
        alpha=alpha,
        trans_a=trans_a,
        trans_b=trans_b,
    )
    np.testing.assert_array_equal(got, want)


def test_linear_is_matmul_with_the_weight_of_pytorch() -> None:
    rng = np.random.default_rng(3)
    x, w = codes(rng, np.uint8, 2, 9, 16), weights(rng, np.int8, 5, 16)
    bias = rng.integers(-100, 100, 5)
    want = run_op("MatMulInteger", [x, w.T.copy(), np.uint8(77), np.int8(0)], np.int32) + bias
    np.testing.assert_array_equal(linear(x, w, x_zero_point=77, bias=bias), want)


@given(
    values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=6, max_size=6),
    factor=st.sampled_from([1, 2**15, 2**16, 2**24, 2**27]),
)
@settings(max_examples=200, deadline=None)
def test_products_are_exact_on_both_sides_of_the_float64_limit(values: list[int], factor: int) -> None:
    left, right = [v * factor for v in values[:3]], values[3:]
    want = sum(a * b for a, b in zip(left, right))
    assert int(exact_matmul(np.array([left]), np.array(right).reshape(3, 1))[0, 0]) == want


def test_the_float64_limit_is_where_float64_stops() -> None:
    """Just past the limit float64 would lose the last bit; the int64 path keeps it."""
    a, b = np.array([[EXACT_IN_FLOAT64 - 1, 2]]), np.array([[1], [1]])
    assert int(exact_matmul(a, b)[0, 0]) == EXACT_IN_FLOAT64 + 1
    assert int((a.astype(float) @ b.astype(float))[0, 0]) != EXACT_IN_FLOAT64 + 1


def test_gemm_takes_matrices() -> None:
    with pytest.raises(InputError):
        qgemm(np.zeros((2, 3, 4), np.uint8), 1, 0, np.zeros((4, 5), np.int8), 1, 0, 1, 0)
