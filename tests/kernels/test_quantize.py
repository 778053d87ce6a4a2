"""quantize and dequantize against ONNX Runtime's QuantizeLinear and DequantizeLinear, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fxc.compiler.errors import InputError
from fxc.kernels.reference.quantize import Rounding, dequantize, quantize, rounded
from tests.kernels.ort_ops import exact_ties, model_of, run_op, session_of, zero_point

SCALES = [0.5, 0.0078125, 0.1, 0.023528477, 3.7]


def inputs_with_ties(scale: float, count: int = 300) -> np.ndarray:
    """Every half step around zero, their float32 neighbours, and values far outside the range."""
    half = ((np.arange(-count, count) + 0.5) * scale).astype(np.float32)
    far = np.array([0, -0.0, 1e9, -1e9, 3.4e38, -3.4e38, np.inf, -np.inf, 1e-42], np.float32)
    return np.concatenate(
        [half, np.nextafter(half, np.float32(np.inf)), np.nextafter(half, np.float32(-np.inf)), far]
    )


@pytest.mark.parametrize("opset", [13, 19])
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 0), (np.uint8, 127), (np.int8, 0), (np.int8, -13)])
@pytest.mark.parametrize("scale", SCALES)
def test_quantize_is_quantize_linear(dtype: Any, zero: int, scale: float, opset: int) -> None:
    x = inputs_with_ties(scale)
    assert exact_ties(x[:600] / np.float32(scale)) > 100
    want = run_op("QuantizeLinear", [x, np.float32(scale), zero_point(dtype, zero)], dtype, opset=opset)
    got = quantize(x, scale, zero, dtype=dtype)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == dtype
    assert {want.min(), want.max()} == {np.iinfo(dtype).min, np.iinfo(dtype).max}


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint16, 4096), (np.int16, -7)])
def test_quantize_to_sixteen_bits(dtype: Any, zero: int) -> None:
    x = inputs_with_ties(0.1, 40_000)
    want = run_op("QuantizeLinear", [x, np.float32(0.1), zero_point(dtype, zero)], dtype, opset=21)
    np.testing.assert_array_equal(quantize(x, 0.1, zero, dtype=dtype), want)


@pytest.mark.parametrize(
    ("dtype", "low", "high", "name"), [(np.int8, -8, 7, "INT4"), (np.uint8, 0, 15, "UINT4")]
)
def test_quantize_to_four_bits(dtype: Any, low: int, high: int, name: str) -> None:
    x = inputs_with_ties(0.5, 20)
    zero = helper.make_tensor("z", TensorProto.DataType.Value(name), [], [3])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = model_of(nodes, {"x": x}, {"s": np.array(0.5, np.float32)}, {"y": np.float32}, opset=21)
    model.graph.initializer.append(zero)
    want = session_of(model).run(None, {"x": x})[0]
    got = quantize(x, 0.5, 3, dtype=dtype, low=low, high=high)
    np.testing.assert_array_equal(dequantize(got, 0.5, 3), want)
    assert (got.min(), got.max()) == (low, high)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quantize_per_channel(axis: int) -> None:
    rng = np.random.default_rng(axis)
    x = rng.normal(0, 3, (4, 5, 6)).astype(np.float32)
    scale = np.exp(rng.uniform(-5, -1, x.shape[axis])).astype(np.float32)
    zero = rng.integers(-20, 20, x.shape[axis]).astype(np.int8)
    want = run_op("QuantizeLinear", [x, scale, zero], np.int8, axis=axis)
    np.testing.assert_array_equal(quantize(x, scale, zero, axis=axis), want)
    back = run_op("DequantizeLinear", [want, scale, zero], np.float32, axis=axis)
    np.testing.assert_array_equal(dequantize(want, scale, zero, axis=axis), back)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 7), (np.int8, -128), (np.int32, 0)])
def test_dequantize_is_dequantize_linear(dtype: Any, zero: int, scale: float) -> None:
    info = np.iinfo(dtype)
    span = np.linspace(info.min, info.max, 5001).astype(np.int64)
    q = np.concatenate([np.arange(-100, 100).clip(info.min, info.max), span]).astype(dtype)
    want = run_op("DequantizeLinear", [q, np.float32(scale), zero_point(dtype, zero)], np.float32)
    np.testing.assert_array_equal(dequantize(q, scale, zero), want)


def test_a_reciprocal_product_would_not_do() -> None:
    """The judge tells a true division from x * (1 / scale), so the equality above means something."""
    x = inputs_with_ties(0.1, 120)[:-9]
    want = run_op("QuantizeLinear", [x, np.float32(0.1), np.int8(0)], np.int8)
    product = np.clip(np.rint(x * (np.float32(1) / np.float32(0.1))), -128, 127)
    assert np.count_nonzero(product != want) > 10


@given(
    value=st.floats(-1e6, 1e6, width=32),
    step=st.sampled_from([0.5, 0.1, 0.03125, 1.0]),
    dtype=st.sampled_from([np.int8, np.uint8]),
)
@settings(max_examples=300, deadline=None)
def test_half_away_is_exact_rounding(value: float, step: float, dtype: Any) -> None:
    ratio = np.float32(value) / np.float32(step)
    exact = Fraction(float(ratio))
    away = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    info = np.iinfo(dtype)
    got = quantize(np.array([value], np.float32), step, dtype=dtype, rounding="half_away")[0]
    assert int(got) == min(max(away, info.min), info.max)


def test_the_two_roundings_part_on_ties_only() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, -0.49999997, 8388609.0], np.float32)
    assert rounded(x, "half_even").tolist() == [-2, -2, 0, 0, 2, 2, 0, 0, 8388609]
    assert rounded(x, "half_away").tolist() == [-3, -2, -1, 1, 2, 3, 0, 0, 8388609]


@given(
    code=st.integers(-128, 127),
    zero=st.integers(-128, 127),
    scale=st.floats(2.0**-100, 2.0**100, width=32),
    away=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_codes_survive_a_round_trip(code: int, zero: int, scale: float, away: bool) -> None:
    q = np.array([code], np.int8)
    rounding: Rounding = "half_away" if away else "half_even"
    assert quantize(dequantize(q, scale, zero), scale, zero, rounding=rounding)[0] == code


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((np.array([np.nan], np.float32), 0.1), {}),
        ((np.array([1.0]), 0.1), {}),
        ((np.ones(3, np.float32), 0.0), {}),
        ((np.ones(3, np.float32), -1.0), {}),
        ((np.ones(3, np.float32), float("inf")), {}),
        ((np.ones(3, np.float32), 1e-60), {}),
        ((np.ones(3, np.float32), [0.1, 0.2, 0.3]), {}),
        ((np.ones(3, np.float32), 0.1), {"low": 0, "high": 300, "dtype": np.uint8}),
        ((np.ones(3, np.float32), 0.1), {"dtype": np.float32}),
        ((np.ones(3, np.float32), 0.1), {"rounding": "up"}),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        quantize(*arguments, **options)


def test_dequantize_takes_integers_only() -> None:
    with pytest.raises(InputError):
        dequantize(np.ones(3, np.float32), 0.1)
