"""Graphs of DequantizeLinear, a float operator and QuantizeLinear: as written, and as ONNX Runtime fuses them.

Fused, a graph must give exactly the codes of the reference kernel. As written it computes in float32, and what it means
is compared too: with power-of-two scales float32 is exact, so graph, fused kernel and reference must agree on every
code, ties included; with other scales they may part by one code where float32 rounding decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from fxc.kernels import reference
from fxc.kernels.reference import Coded
from fxc.kernels.reference.quantize import Scale
from tests.kernels.ort_ops import ON_X86, codes, model_of, op_types, session_of, weights, zero_point

x86_kernel = pytest.mark.skipif(not ON_X86, reason="the rule of the x86 kernel; ARM's is fixed-point")
DTYPES = [np.uint8, np.int8]
X_ZERO = {np.uint8: 122, np.int8: 7}
Y_ZERO = {np.uint8: 101, np.int8: 3}


@dataclass(frozen=True)
class Input:
    """One operand of the float operator, given by its codes behind a DequantizeLinear."""

    codes: np.ndarray
    scale: Any
    zero_point: int = 0
    axis: int | None = None
    constant: bool = False


@dataclass(frozen=True)
class Answers:
    """The codes that ONNX Runtime gives for the graph as written, and after its fusions."""

    plain: np.ndarray
    fused: np.ndarray
    ops: set[str]


def run_graph(
    folder: Path,
    op: str,
    inputs: list[Input],
    y_scale: Scale,
    y_zero: int,
    dtype: Any,
    *,
    relu: bool = False,
    **attributes: Any,
) -> Answers:
    """Build, run as written, run optimized."""
    nodes: list[onnx.NodeProto] = []
    feeds: dict[str, np.ndarray] = {}
    constants: dict[str, np.ndarray] = {}
    reals: list[str] = []
    for i, operand in enumerate(inputs):
        (constants if operand.constant else feeds)[f"q{i}"] = operand.codes
        scale = np.asarray(operand.scale, np.float32)
        constants[f"s{i}"], constants[f"z{i}"] = (
            scale,
            np.full(scale.shape, operand.zero_point, operand.codes.dtype),
        )
        axis: dict[str, Any] = {} if operand.axis is None else {"axis": operand.axis}
        nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", f"s{i}", f"z{i}"], [f"r{i}"], **axis))
        reals.append(f"r{i}")
    nodes.append(helper.make_node(op, reals, ["real"], **attributes))
    if relu:
        nodes.append(helper.make_node("Relu", ["real"], ["positive"]))
    constants["sy"], constants["zy"] = np.asarray(y_scale, np.float32), zero_point(dtype, y_zero)
    nodes.append(helper.make_node("QuantizeLinear", [nodes[-1].output[0], "sy", "zy"], ["y"]))
    model = model_of(nodes, feeds, constants, {"y": dtype})
    optimized = folder / "optimized.onnx"
    fused = session_of(model, optimized).run(None, feeds)[0]
    return Answers(session_of(model).run(None, feeds)[0], fused, op_types(optimized))


def scale_pair(power_of_two: bool, weight_channels: int, seed: int) -> tuple[np.float32, np.ndarray]:
    """An activation scale and per-channel weight scales."""
    exponent = np.random.default_rng(seed).uniform(-8, -5, weight_channels)
    s_w = np.exp2(np.floor(exponent) if power_of_two else exponent).astype(np.float32)
    return np.float32(0.25 if power_of_two else 0.2347), s_w


def check(answers: Answers, expected: np.ndarray, kernel: str, *, exact_in_float: bool) -> None:
    """Fused equals the reference; as written it does too where float32 is exact, and nearly does elsewhere."""
    assert kernel in answers.ops
    assert "DequantizeLinear" not in answers.ops
    np.testing.assert_array_equal(answers.fused, expected)
    info = np.iinfo(expected.dtype)
    assert np.mean((expected > info.min) & (expected < info.max)) > 0.25
    gap = np.abs(answers.plain.astype(int) - expected.astype(int))
    assert gap.max() <= (0 if exact_in_float else 1)
    assert np.mean(gap > 0) < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power_of_two", [True, False])
@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("relu", [False, True])
def test_conv(tmp_path: Path, dtype: Any, power_of_two: bool, groups: int, relu: bool) -> None:
    rng = np.random.default_rng(0)
    x, w = codes(rng, dtype, 2, 8, 14, 14), weights(rng, np.int8, 16, 8 // groups, 3, 3)
    s_x, s_w = scale_pair(power_of_two, 16, 1)
    bias = rng.integers(-2000, 2000, 16).astype(np.int32)
    y_zero = np.iinfo(dtype).min if relu else Y_ZERO[dtype]
    y_scale = np.float32((4 if groups == 1 else 2) * (1 if power_of_two else 0.91))
    inputs = [
        Input(x, s_x, 7),
        Input(w, s_w, axis=0, constant=True),
        Input(bias, s_x * s_w, axis=0, constant=True),
    ]
    answers = run_graph(
        tmp_path,
        "Conv",
        inputs,
        y_scale,
        y_zero,
        dtype,
        relu=relu,
        pads=[1, 0, 1, 2],
        strides=[2, 1],
        group=groups,
    )
    options: dict[str, Any] = {"stride": (2, 1), "padding": (1, 0, 1, 2), "groups": groups}
    want = reference.qlinear_conv(x, s_x, 7, w, s_w, 0, y_scale, y_zero, bias=bias, dtype=dtype, **options)
    if relu:
        assert np.mean(want == y_zero) > 0.3
    check(answers, want, "QLinearConv", exact_in_float=power_of_two)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power_of_two", [True, False])
def test_matmul(tmp_path: Path, dtype: Any, power_of_two: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = codes(rng, dtype, 3, 20, 64), weights(rng, np.int8, 64, 24)
    s_a, s_b = scale_pair(power_of_two, 24, 2)
    y_scale = np.float32(2 if power_of_two else 2.3)
    inputs = [Input(a, s_a, 7), Input(b, s_b, axis=1, constant=True)]
    answers = run_graph(tmp_path, "MatMul", inputs, y_scale, Y_ZERO[dtype], dtype)
    want = reference.qlinear_matmul(a, s_a, 7, b, s_b, 0, y_scale, Y_ZERO[dtype], dtype=dtype)
    check(answers, want, "QLinearMatMul", exact_in_float=power_of_two)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power_of_two", [True, False])
def test_gemm(tmp_path: Path, dtype: Any, power_of_two: bool) -> None:
    rng = np.random.default_rng(2)
    a, w = codes(rng, dtype, 40, 64), weights(rng, np.int8, 24, 64)
    s_a, s_w = scale_pair(power_of_two, 24, 3)
    bias = rng.integers(-2000, 2000, 24).astype(np.int32)
    y_scale = np.float32(2 if power_of_two else 2.3)
    inputs = [
        Input(a, s_a, 7),
        Input(w, s_w, axis=0, constant=True),
        Input(bias, s_a * s_w, axis=0, constant=True),
    ]
    answers = run_graph(tmp_path, "Gemm", inputs, y_scale, Y_ZERO[dtype], dtype, transB=1)
    want = reference.qgemm(a, s_a, 7, w, s_w, 0, y_scale, Y_ZERO[dtype], bias=bias, dtype=dtype, trans_b=True)
    check(answers, want, "QGemm", exact_in_float=power_of_two)


@x86_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power_of_two", [True, False])
@pytest.mark.parametrize("cells", [(4, 4), (7, 7)])
def test_global_average_pool(tmp_path: Path, dtype: Any, power_of_two: bool, cells: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    x = codes(rng, dtype, 4, 96, *cells)
    s_x, s_y = np.float32(0.25), np.float32(0.125 if power_of_two else 0.0913)
    answers = run_graph(
        tmp_path, "GlobalAveragePool", [Input(x, s_x, X_ZERO[dtype])], s_y, Y_ZERO[dtype], dtype
    )
    want = reference.global_average_pool(x, s_x, X_ZERO[dtype], s_y, Y_ZERO[dtype], dtype=dtype)
    check(answers, want, "QLinearGlobalAveragePool", exact_in_float=power_of_two and cells == (4, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool(tmp_path: Path, dtype: Any) -> None:
    x = codes(np.random.default_rng(4), dtype, 2, 5, 9, 9)
    pads: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    answers = run_graph(tmp_path, "MaxPool", [Input(x, 0.037, 7)], 0.037, 7, dtype, **pads)
    want = reference.max_pool(x, (3, 3), stride=2, padding=1)
    assert answers.ops == {"MaxPool"}
    np.testing.assert_array_equal(answers.fused, want)
    np.testing.assert_array_equal(answers.plain, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat(tmp_path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(5)
    parts = [Coded(codes(rng, dtype, 2, 6, 50), s, z) for s, z in ((0.1, 7), (0.0625, -3 % 120), (0.15, 9))]
    inputs = [Input(p.codes, p.scale, p.zero_point) for p in parts]
    answers = run_graph(tmp_path, "Concat", inputs, 0.1, 7, dtype, axis=1)
    check(answers, reference.concat(parts, 0.1, 7, dtype=dtype), "QLinearConcat", exact_in_float=True)


BINARY = [
    ("Add", reference.add, reference.qlinear_add, 1.0),
    ("Mul", reference.mul, reference.qlinear_mul, 8.0),
]


@x86_kernel
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", [(0.25, 0.5, 0.5), (0.1, 0.3, 0.2), (0.0347, 0.0213, 0.0419)])
@pytest.mark.parametrize(("op", "graph", "kernel", "widen"), BINARY)
def test_add_and_mul(
    tmp_path: Path,
    op: str,
    graph: Callable[..., np.ndarray],
    kernel: Callable[..., np.ndarray],
    widen: float,
    scales: tuple[float, float, float],
    dtype: Any,
) -> None:
    """Both rules exactly: ``add`` is the graph as written, ``qlinear_add`` is what the fusion makes of it."""
    rng = np.random.default_rng(6)
    a, b = (Coded(codes(rng, dtype, 2, 8, 30, 30), float(np.float32(s)), z) for s, z in zip(scales, (7, 20)))
    y_scale, y_zero = float(np.float32(scales[2] * widen)), Y_ZERO[dtype]
    inputs = [Input(p.codes, p.scale, p.zero_point) for p in (a, b)]
    answers = run_graph(tmp_path, op, inputs, y_scale, y_zero, dtype)
    assert f"QLinear{op}" in answers.ops
    np.testing.assert_array_equal(answers.plain, graph(a, b, y_scale, y_zero, dtype=dtype))
    np.testing.assert_array_equal(answers.fused, kernel(a, b, y_scale, y_zero, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_average_pool(tmp_path: Path, dtype: Any) -> None:
    x = codes(np.random.default_rng(7), dtype, 2, 5, 12, 12)
    pads: dict[str, Any] = {
        "kernel_shape": [3, 3],
        "strides": [2, 2],
        "pads": [1, 1, 1, 1],
        "count_include_pad": 1,
    }
    answers = run_graph(
        tmp_path, "AveragePool", [Input(x, 0.11, X_ZERO[dtype])], 0.07, Y_ZERO[dtype], dtype, **pads
    )
    want = reference.qlinear_average_pool(
        x,
        0.11,
        X_ZERO[dtype],
        0.07,
        Y_ZERO[dtype],
        (3, 3),
        stride=2,
        padding=1,
        count_padding=True,
        dtype=dtype,
    )
    check(answers, want, "QLinearAveragePool", exact_in_float=False)
