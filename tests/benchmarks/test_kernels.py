"""The reference kernels beside ONNX Runtime's integer and PyTorch's float ones, on layers of real networks.

A reference kernel is right first; its distance to the peers says what a comparison of whole networks will cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from fxc.kernels import reference
from tests.kernels.ort_ops import codes, model_of, session_of, weights

CONVS = {
    "3x3 64 at 28": (64, 64, 3, 28, 1),
    "1x1 256 at 14": (256, 64, 1, 14, 1),
    "depthwise 3x3 96 at 28": (96, 96, 3, 28, 96),
}
ROWS, INNER, COLUMNS = 197, 768, 768
"""One linear layer of ViT-B/16."""


@dataclass(frozen=True)
class Conv:
    """One layer's codes, scales and shape."""

    x: np.ndarray
    w: np.ndarray
    s_w: np.ndarray
    s_y: np.float32
    bias: np.ndarray
    groups: int

    @classmethod
    def of(cls, channels: int, out: int, kernel: int, size: int, groups: int) -> Conv:
        rng = np.random.default_rng(channels)
        w = weights(rng, np.int8, out, channels // groups, kernel, kernel)
        return cls(
            codes(rng, np.uint8, 1, channels, size, size),
            w,
            np.exp(rng.uniform(-7, -5, out)).astype(np.float32),
            np.float32(0.013 * np.sqrt(w[0].size)),
            rng.integers(-3000, 3000, out).astype(np.int32),
            groups,
        )

    @property
    def padding(self) -> int:
        return self.w.shape[-1] // 2


S_X, ZERO_X, ZERO_Y = np.float32(0.02), 114, 128


def conv_reference(c: Conv) -> Callable[[], Any]:
    return lambda: reference.qlinear_conv(
        c.x, S_X, ZERO_X, c.w, c.s_w, 0, c.s_y, ZERO_Y, bias=c.bias, padding=c.padding, groups=c.groups
    )


def conv_onnxruntime(c: Conv) -> Callable[[], Any]:
    constants = {
        "sx": S_X, "zx": np.uint8(ZERO_X), "w": c.w, "sw": c.s_w, "zw": np.zeros(len(c.w), np.int8),
        "sy": c.s_y, "zy": np.uint8(ZERO_Y), "b": c.bias,
    }  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], pads=[c.padding] * 4, group=c.groups)
    session = session_of(model_of([node], {"x": c.x}, constants, {"y": np.uint8}))
    return lambda: session.run(None, {"x": c.x})[0]


def conv_torch_float(c: Conv) -> Callable[[], Any]:
    x, w = torch.from_numpy(c.x).float(), torch.from_numpy(c.w).float()
    return lambda: torch.conv2d(x, w, padding=c.padding, groups=c.groups)


@pytest.mark.parametrize("maker", [conv_reference, conv_onnxruntime, conv_torch_float])
@pytest.mark.parametrize("layer", CONVS)
def test_conv(benchmark: Any, layer: str, maker: Callable[[Conv], Callable[[], Any]]) -> None:
    benchmark.group = f"conv {layer}"
    assert benchmark(maker(Conv.of(*CONVS[layer]))).size


def matmul_reference(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
    return lambda: reference.matmul(a, b, a_zero_point=ZERO_X)


def matmul_onnxruntime(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
    constants = {"b": b, "za": np.uint8(ZERO_X), "zb": np.int8(0)}
    node = helper.make_node("MatMulInteger", ["a", *constants], ["y"])
    session = session_of(model_of([node], {"a": a}, constants, {"y": np.int32}))
    return lambda: session.run(None, {"a": a})[0]


def matmul_torch_float(a: np.ndarray, b: np.ndarray) -> Callable[[], Any]:
    x, y = torch.from_numpy(a).float(), torch.from_numpy(b).float()
    return lambda: x @ y


@pytest.mark.parametrize("maker", [matmul_reference, matmul_onnxruntime, matmul_torch_float])
def test_matmul(benchmark: Any, maker: Callable[[np.ndarray, np.ndarray], Callable[[], Any]]) -> None:
    rng = np.random.default_rng(0)
    benchmark.group = f"matmul {ROWS}x{INNER}x{COLUMNS}"
    a, b = codes(rng, np.uint8, ROWS, INNER), weights(rng, np.int8, INNER, COLUMNS)
    assert benchmark(maker(a, b)).size


@pytest.mark.parametrize("name", ["fxc::quantize.tensor", "reference", "onnxruntime"])
def test_quantize(benchmark: Any, name: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 64, 56, 56)).astype(np.float32)
    benchmark.group = "quantize 64x56x56"
    assert benchmark(quantizer(name, x)).shape == x.shape


def quantizer(name: str, x: np.ndarray) -> Callable[[], Any]:
    if name == "reference":
        return lambda: reference.quantize(x, S_X, ZERO_X, dtype=np.uint8)
    if name == "onnxruntime":
        constants = {"s": S_X, "z": np.uint8(ZERO_X)}
        node = helper.make_node("QuantizeLinear", ["x", *constants], ["y"])
        session = session_of(model_of([node], {"x": x}, constants, {"y": np.uint8}))
        return lambda: session.run(None, {"x": x})[0]
    from fxc.compiler.qdq import QUANTIZE_TENSOR

    tensor = torch.from_numpy(x)
    return lambda: QUANTIZE_TENSOR(tensor, float(S_X), ZERO_X, 0, 255, torch.uint8)
