"""Pooling against ONNX Runtime's MaxPool, QLinearAveragePool and QLinearGlobalAveragePool, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fxc.kernels.reference import average_pool, global_average_pool, max_pool, qlinear_average_pool
from fxc.kernels.reference.pool import window_sums
from fxc.kernels.reference.windows import Windows
from tests.kernels.ort_ops import MICROSOFT, ON_X86, codes, exact_ties, run_op, zero_point

DTYPES = [np.uint8, np.int8]


@st.composite
def poolings(draw: st.DrawFn) -> dict[str, Any]:
    """A pooling whose padding is smaller than its kernel, which does not cover the whole input."""
    rank = draw(st.integers(1, 3))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    stride = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    spatial = [k + draw(st.integers(1, 5)) for k in kernel]
    return {
        "shape": (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *spatial),
        "kernel": kernel,
        "stride": stride,
        "padding": pads,
        "seed": draw(st.integers(0, 2**16)),
        "dtype": draw(st.sampled_from(DTYPES)),
    }


@given(poolings(), st.booleans(), st.integers(1, 2))
@settings(max_examples=80, deadline=None)
def test_max_pool(case: dict[str, Any], ceil_mode: bool, dilation: int) -> None:
    rank = len(case["kernel"])
    spatial = [(k - 1) * (dilation - 1) + s for k, s in zip(case["kernel"], case["shape"][2:])]
    x = codes(np.random.default_rng(case["seed"]), case["dtype"], *case["shape"][:2], *spatial)
    attributes: dict[str, Any] = {
        "kernel_shape": case["kernel"],
        "strides": case["stride"],
        "pads": case["padding"],
    }
    options: dict[str, Any] = {"ceil_mode": int(ceil_mode), "dilations": [dilation] * rank}
    want = run_op("MaxPool", [x], case["dtype"], **attributes, **options)
    got = max_pool(
        x,
        case["kernel"],
        stride=case["stride"],
        padding=case["padding"],
        dilation=dilation,
        ceil_mode=ceil_mode,
    )
    np.testing.assert_array_equal(got, want)
    assert got.dtype == case["dtype"]


@given(poolings(), st.booleans(), st.sampled_from(["power_of_two", "ratio", "any"]))
@settings(max_examples=120, deadline=None)
def test_qlinear_average_pool(case: dict[str, Any], count_padding: bool, kind: str) -> None:
    rng, dtype = np.random.default_rng(case["seed"]), case["dtype"]
    x = codes(rng, dtype, *case["shape"])
    s_x, s_y = scales(rng, kind)
    zero_x, zero_y = (int(z) for z in codes(rng, dtype, 2))
    want = run_op(
        "QLinearAveragePool",
        [x, s_x, zero_point(dtype, zero_x), s_y, zero_point(dtype, zero_y)],
        dtype,
        domain=MICROSOFT,
        kernel_shape=case["kernel"],
        strides=case["stride"],
        pads=case["padding"],
        count_include_pad=int(count_padding),
    )
    attributes = {
        "stride": case["stride"],
        "padding": case["padding"],
        "count_padding": count_padding,
        "dtype": dtype,
    }
    got = qlinear_average_pool(x, float(s_x), zero_x, float(s_y), zero_y, case["kernel"], **attributes)
    np.testing.assert_array_equal(got, want)
    exact = average_pool(x, float(s_x), zero_x, float(s_y), zero_y, case["kernel"], **attributes)
    assert np.abs(exact.astype(int) - got.astype(int)).max() <= 1


def scales(rng: np.random.Generator, kind: str) -> tuple[np.float32, np.float32]:
    """(s_x, s_y): powers of two, small ratios, or anything."""
    if kind == "power_of_two":
        x, y = 2.0 ** rng.integers(-4, 1, 2)
    elif kind == "ratio":
        x, y = np.exp(rng.uniform(-6, 0)) * rng.integers(1, 9, 2)
    else:
        x, y = np.exp(rng.uniform(-3, 0, 2))
    return np.float32(x), np.float32(y)


@pytest.mark.skipif(not ON_X86, reason="the rule of the x86 kernel; ARM's is fixed-point")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["power_of_two", "ratio", "any"])
@pytest.mark.parametrize("spatial", [(4, 8), (7, 7), (5,), (2, 3, 4), (56, 56)])
def test_global_average_pool(spatial: tuple[int, ...], kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(len(spatial))
    for _ in range(12):
        x = codes(rng, dtype, 2, 37, *spatial)
        s_x, s_y = scales(rng, kind)
        zero_x, zero_y = (int(z) for z in codes(rng, dtype, 2))
        inputs = [x, s_x, zero_point(dtype, zero_x), s_y, zero_point(dtype, zero_y)]
        want = run_op("QLinearGlobalAveragePool", inputs, dtype, domain=MICROSOFT, channels_last=0)
        got = global_average_pool(x, float(s_x), zero_x, float(s_y), zero_y, dtype=dtype)
        np.testing.assert_array_equal(got, want)
        covering = run_op("QLinearAveragePool", inputs, dtype, domain=MICROSOFT, kernel_shape=list(spatial))
        np.testing.assert_array_equal(got, covering)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_and_float_pooling_part_on_ties_with_an_odd_zero_point(dtype: Any) -> None:
    """Power-of-two scales and a 2 x 2 window keep float32 exact, so only the rounding differs."""
    rng = np.random.default_rng(9)
    x = codes(rng, dtype, 2, 8, 12, 12)
    for zero_y in (0, 1, 24, 37):
        sums, counts = window_sums(x, Windows.of((2, 2), 2, 0, 1), zero_point=3, count_padding=False)
        ratio = sums / counts * 0.5
        tie = np.abs(np.modf(ratio)[0]) == 0.5
        assert exact_ties(ratio) > 50
        exact = average_pool(x, 0.25, 3, 0.5, zero_y, (2, 2), stride=2, dtype=dtype).astype(int)
        fused = qlinear_average_pool(x, 0.25, 3, 0.5, zero_y, (2, 2), stride=2, dtype=dtype).astype(int)
        inside = (exact > np.iinfo(dtype).min) & (exact < np.iinfo(dtype).max)
        np.testing.assert_array_equal((exact != fused)[inside], (tie & bool(zero_y % 2))[inside])


@given(case=poolings(), ceil_mode=st.booleans(), count_padding=st.booleans())
@settings(max_examples=80, deadline=None)
def test_window_sums_are_those_of_pytorch(case: dict[str, Any], ceil_mode: bool, count_padding: bool) -> None:
    """Symmetric padding of at most half the kernel is all that PyTorch takes; ceil_mode's last window is its rule."""
    x = codes(np.random.default_rng(case["seed"]), case["dtype"], *case["shape"])
    half = [k // 2 for k in case["kernel"]]
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(half)]
    real = torch.from_numpy(x.astype(np.float64) - 5)
    want = pool(real, case["kernel"], case["stride"], half, ceil_mode, count_padding)
    windows = Windows.of(case["kernel"], case["stride"], half, 1, ceil_mode)
    sums, counts = window_sums(x, windows, zero_point=5, count_padding=count_padding)
    np.testing.assert_allclose(sums / counts, want.numpy(), rtol=1e-12, atol=1e-12)


def test_half_away_pooling() -> None:
    x = np.array([[[1, 2], [2, 3], [-1, -2]]], np.int8)
    even = average_pool(x, 1.0, 0, 1.0, 0, (2,), dtype=np.int8)
    away = average_pool(x, 1.0, 0, 1.0, 0, (2,), dtype=np.int8, rounding="half_away")
    assert even.ravel().tolist() == [2, 2, -2]
    assert away.ravel().tolist() == [2, 3, -2]
