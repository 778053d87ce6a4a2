"""Convolution against ONNX Runtime's ConvInteger and QLinearConv, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxc.compiler.errors import InputError
from fxc.kernels.reference import conv, output_multiplier, qlinear_conv
from tests.kernels.ort_ops import codes, exact_ties, run_op, weights, zero_point

PAIRS = [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)]


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Shapes and attributes of a small convolution that fits its input."""
    rank = draw(st.integers(1, 3))
    axes = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel, stride, dilation = draw(axes), draw(axes), draw(axes)
    pads = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    extra = draw(st.lists(st.integers(0, 4), min_size=rank, max_size=rank))
    spatial = [(k - 1) * d + 1 + e for k, d, e in zip(kernel, dilation, extra)]
    groups = draw(st.integers(1, 3))
    per_group, out_per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return {
        "x": (draw(st.integers(1, 2)), groups * per_group, *spatial),
        "w": (groups * out_per_group, per_group, *kernel),
        "stride": stride,
        "padding": pads,
        "dilation": dilation,
        "groups": groups,
        "seed": draw(st.integers(0, 2**16)),
        "pair": draw(st.sampled_from(PAIRS)),
    }


def onnx_attributes(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "strides": case["stride"],
        "pads": case["padding"],
        "dilations": case["dilation"],
        "group": case["groups"],
    }


def our_attributes(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in ("stride", "padding", "dilation", "groups")}


@given(convolutions())
@settings(max_examples=80, deadline=None)
def test_conv_is_conv_integer(case: dict[str, Any]) -> None:
    rng = np.random.default_rng(case["seed"])
    x_dtype, w_dtype = case["pair"]
    x, w = codes(rng, x_dtype, *case["x"]), weights(rng, w_dtype, *case["w"])
    zero_x, zero_w = int(codes(rng, x_dtype)), int(weights(rng, w_dtype))
    inputs = [x, w, zero_point(x_dtype, zero_x), zero_point(w_dtype, zero_w)]
    want = run_op("ConvInteger", inputs, np.int32, **onnx_attributes(case))
    got = conv(x, w, x_zero_point=zero_x, w_zero_point=zero_w, **our_attributes(case))
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int64


@given(convolutions(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_qlinear_conv_per_channel(case: dict[str, Any], power_of_two: bool) -> None:
    rng = np.random.default_rng(case["seed"])
    x_dtype, w_dtype = case["pair"]
    x, w = codes(rng, x_dtype, *case["x"]), weights(rng, w_dtype, *case["w"])
    out, taps = w.shape[0], w[0].size
    zero_x, zero_y = int(codes(rng, x_dtype)), int(codes(rng, x_dtype))
    zero_w = 0 if w_dtype == np.int8 else 128
    exponent = rng.uniform(-9, -6, out)
    s_w = np.exp2(np.floor(exponent) if power_of_two else exponent).astype(np.float32)
    s_x, s_y = np.float32(0.5), np.float32(taps / 2 if power_of_two else taps * 0.37)
    bias = rng.integers(-2000, 2000, out).astype(np.int32)
    zeros_w = np.full(out, zero_w, w_dtype)
    inputs = [x, s_x, zero_point(x_dtype, zero_x), w, s_w, zeros_w, s_y, zero_point(x_dtype, zero_y), bias]
    want = run_op("QLinearConv", inputs, x_dtype, constant=(3, 4, 5, 8), **onnx_attributes(case))
    got = qlinear_conv(
        x, s_x, zero_x, w, s_w, zero_w, s_y, zero_y, bias=bias, dtype=x_dtype, **our_attributes(case)
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("x_dtype", "w_dtype"), PAIRS)
@pytest.mark.parametrize("zero_y", [0, 1, 100])
def test_ties_and_both_ends(x_dtype: Any, w_dtype: Any, zero_y: int) -> None:
    """Power-of-two multipliers put a fraction of the accumulators exactly on .5, and the scale saturates both ends."""
    rng = np.random.default_rng(7)
    x, w = codes(rng, x_dtype, 2, 8, 12, 12), weights(rng, w_dtype, 16, 8, 3, 3) // 16
    zero_x, zero_w = 3, 0 if w_dtype == np.int8 else 8
    s_w = (2.0 ** -np.tile(np.arange(-1, 3), 4)).astype(np.float32)
    bias = rng.integers(-500, 500, 16).astype(np.int32)
    s_x, s_y = np.float32(0.25), np.float32(8)
    acc = conv(x, w, x_zero_point=zero_x, w_zero_point=zero_w, bias=bias, padding=1)
    multiplier = output_multiplier(s_x, s_w, s_y)
    assert exact_ties(acc * multiplier.reshape(1, -1, 1, 1)) > 20
    inputs = [x, s_x, zero_point(x_dtype, zero_x), w, s_w, np.full(16, zero_w, w_dtype), s_y]
    want = run_op(
        "QLinearConv",
        [*inputs, zero_point(x_dtype, zero_y), bias],
        x_dtype,
        constant=(3, 4, 5, 8),
        pads=[1, 1, 1, 1],
    )
    got = qlinear_conv(x, s_x, zero_x, w, s_w, zero_w, s_y, zero_y, bias=bias, dtype=x_dtype, padding=1)
    np.testing.assert_array_equal(got, want)
    assert (got.min(), got.max()) == (np.iinfo(x_dtype).min, np.iinfo(x_dtype).max)


@pytest.mark.parametrize(
    ("channels", "out", "kernel", "size", "stride", "groups"),
    [
        (64, 64, 3, 28, 1, 1),
        (3, 64, 7, 64, 2, 1),
        (96, 96, 3, 28, 2, 96),
        (256, 64, 1, 14, 1, 1),
        (32, 64, 3, 14, 1, 4),
    ],
)
def test_layers_of_real_networks(
    channels: int, out: int, kernel: int, size: int, stride: int, groups: int
) -> None:
    rng = np.random.default_rng(channels)
    x, w = (
        codes(rng, np.uint8, 1, channels, size, size),
        weights(rng, np.int8, out, channels // groups, kernel, kernel),
    )
    s_w = np.exp(rng.uniform(-7, -5, out)).astype(np.float32)
    bias = rng.integers(-3000, 3000, out).astype(np.int32)
    s_x, s_y = np.float32(0.02), np.float32(0.013 * np.sqrt(w[0].size))
    inputs = [x, s_x, np.uint8(114), w, s_w, np.zeros(out, np.int8), s_y, np.uint8(128), bias]
    pads, same = [kernel // 2] * 4, kernel // 2
    want = run_op(
        "QLinearConv", inputs, np.uint8, constant=(3, 4, 5, 8), pads=pads, strides=[stride] * 2, group=groups
    )
    got = qlinear_conv(
        x, s_x, 114, w, s_w, 0, s_y, 128, bias=bias, stride=stride, padding=same, groups=groups
    )
    np.testing.assert_array_equal(got, want)


def test_a_zero_point_per_weight_channel() -> None:
    """ONNX Runtime takes one weight zero point for a whole convolution: channels one by one are the judge."""
    rng = np.random.default_rng(3)
    x, w = codes(rng, np.uint8, 2, 3, 6, 7), weights(rng, np.int8, 4, 3, 3, 2)
    zeros = np.array([0, -5, 17, 1])
    got = conv(x, w, x_zero_point=9, w_zero_point=zeros)
    for channel, zero in enumerate(zeros):
        one = [x, w[channel : channel + 1], np.uint8(9), zero_point(np.int8, int(zero))]
        np.testing.assert_array_equal(got[:, channel : channel + 1], run_op("ConvInteger", one, np.int32))


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((1, 4, 5, 5), (2, 3, 3, 3), {}),
        ((1, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}),
        ((1, 4, 5, 5), (2, 4, 3), {}),
        ((1, 4, 5, 5), (2, 4, 7, 3), {}),
        ((1, 4, 5, 5), (2, 4, 3, 3), {"padding": (1, 1, 1)}),
        ((1, 4, 5, 5), (2, 4, 3, 3), {"stride": 0}),
        ((1, 4, 5, 5), (2, 4, 3, 3), {"bias": np.zeros(3, np.int32)}),
        ((4, 5), (2, 4), {}),
    ],
)
def test_shapes_that_do_not_fit(x: tuple[int, ...], w: tuple[int, ...], options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        conv(np.zeros(x, np.uint8), np.zeros(w, np.int8), **options)
