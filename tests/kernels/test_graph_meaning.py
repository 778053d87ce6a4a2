"""A graph of ``fxc::dequantize``, PyTorch operators and ``fxc::quantize`` means what the integer kernels compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fxc.compiler import qdq
from fxc.kernels import reference
from fxc.kernels.reference import Coded
from tests.kernels.ort_ops import codes

DTYPES = [(np.uint8, torch.uint8), (np.int8, torch.int8)]


def limits(dtype: Any) -> tuple[int, int]:
    """Lowest and highest code."""
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


@pytest.mark.parametrize(("dtype", "torch_dtype"), DTYPES)
@pytest.mark.parametrize("scale", [0.5, 0.1, 0.0234])
@pytest.mark.parametrize("zero", [0, 5])
def test_quantize_and_dequantize(scale: float, zero: int, dtype: Any, torch_dtype: torch.dtype) -> None:
    half = ((np.arange(-300, 300) + 0.5) * scale).astype(np.float32)
    x = np.concatenate([half, np.nextafter(half, np.float32(np.inf)), np.array([0, -1e30, 1e30], np.float32)])
    got = qdq.QUANTIZE_TENSOR(torch.from_numpy(x), scale, zero, *limits(dtype), torch_dtype)
    want = reference.quantize(x, scale, zero, dtype=dtype)
    np.testing.assert_array_equal(got.numpy(), want)
    back = qdq.DEQUANTIZE_TENSOR(got, scale, zero)
    np.testing.assert_array_equal(back.numpy(), reference.dequantize(want, scale, zero))


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_per_channel(axis: int) -> None:
    rng = np.random.default_rng(axis)
    x = rng.normal(0, 2, (4, 5, 3, 6)).astype(np.float32)
    scale = np.exp2(rng.integers(-6, -2, x.shape[axis])).astype(np.float32)
    scale[0] = 0.0371
    zero = rng.integers(-5, 5, x.shape[axis])
    parameters = (torch.from_numpy(scale), torch.from_numpy(zero), axis)
    got = qdq.QUANTIZE_CHANNEL(torch.from_numpy(x), *parameters, -127, 127, torch.int8)
    want = reference.quantize(x, scale, zero, low=-127, axis=axis)
    np.testing.assert_array_equal(got.numpy(), want)
    back = qdq.DEQUANTIZE_CHANNEL(got, *parameters)
    np.testing.assert_array_equal(back.numpy(), reference.dequantize(want, scale, zero, axis=axis))


def test_an_int32_bias() -> None:
    bias = np.array([-(2**31), 2**31 - 1, 2**24 + 1, -(2**25) - 3, 7], np.int32)
    scale = np.exp2(np.arange(-20, -15)).astype(np.float32) * np.float32(1.37)
    zero = torch.zeros(5, dtype=torch.int32)
    got = qdq.DEQUANTIZE_CHANNEL(torch.from_numpy(bias), torch.from_numpy(scale), zero, 0)
    np.testing.assert_array_equal(got.numpy(), reference.dequantize(bias, scale, axis=0))


@pytest.mark.parametrize(("dtype", "torch_dtype"), DTYPES)
@pytest.mark.parametrize("power_of_two", [True, False])
def test_a_convolution(power_of_two: bool, dtype: Any, torch_dtype: torch.dtype) -> None:
    """Exact float32 (powers of two): every code equal, ties included. Else within one code, seldom."""
    rng = np.random.default_rng(0)
    x, w = codes(rng, dtype, 2, 8, 20, 20), codes(rng, np.int8, 16, 8, 3, 3)
    exponent = rng.uniform(-8, -5, 16)
    s_w = np.exp2(np.floor(exponent) if power_of_two else exponent).astype(np.float32)
    s_x, s_y = (0.25, 4.0) if power_of_two else (0.2347, 3.71)
    bias = rng.integers(-2000, 2000, 16).astype(np.int32)
    zeros = torch.zeros(16, dtype=torch.int32)
    real = F.conv2d(
        qdq.DEQUANTIZE_TENSOR(torch.from_numpy(x), s_x, 7),
        qdq.DEQUANTIZE_CHANNEL(torch.from_numpy(w), torch.from_numpy(s_w), zeros, 0),
        qdq.DEQUANTIZE_CHANNEL(torch.from_numpy(bias), torch.from_numpy(np.float32(s_x) * s_w), zeros, 0),
        padding=1,
        stride=2,
    )
    got = qdq.QUANTIZE_TENSOR(real, s_y, 101, *limits(dtype), torch_dtype).numpy()
    want = reference.qlinear_conv(x, s_x, 7, w, s_w, 0, s_y, 101, bias=bias, dtype=dtype, stride=2, padding=1)
    gap = np.abs(got.astype(int) - want.astype(int))
    assert gap.max() <= (0 if power_of_two else 1)
    assert np.mean(gap > 0) < 1e-3


@pytest.mark.parametrize(("dtype", "torch_dtype"), DTYPES)
@pytest.mark.parametrize("scales", [(0.25, 0.5, 0.5), (0.1, 0.3, 0.2), (0.0347, 0.0213, 0.0419)])
@pytest.mark.parametrize(("op", "kernel"), [(torch.add, reference.add), (torch.mul, reference.mul)])
def test_sums_and_products_code_for_code(
    op: Callable[..., torch.Tensor],
    kernel: Callable[..., np.ndarray],
    scales: tuple[float, float, float],
    dtype: Any,
    torch_dtype: torch.dtype,
) -> None:
    rng = np.random.default_rng(1)
    a, b = (Coded(codes(rng, dtype, 5000), s, z) for s, z in zip(scales, (7, 20)))
    y_scale = scales[2] * (8 if op is torch.mul else 1)
    real = op(*(qdq.DEQUANTIZE_TENSOR(torch.from_numpy(p.codes), p.scale, p.zero_point) for p in (a, b)))
    got = qdq.QUANTIZE_TENSOR(real, y_scale, 3, *limits(dtype), torch_dtype)
    np.testing.assert_array_equal(got.numpy(), kernel(a, b, y_scale, 3, dtype=dtype))
