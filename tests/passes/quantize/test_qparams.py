"""Scales and zero points against ONNX Runtime's DynamicQuantizeLinear and closed forms; weights' edge cases."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from fxc.compiler.errors import CalibrationError
from fxc.compiler.quant import I8, I8_WEIGHT, U8, QuantSpec
from fxc.passes.quantize.qparams import SMALLEST_SCALE, qparams, weight_scales
from fxc.passes.quantize.weights import quantize_weight, scale_floor


def dynamic_quantize_linear(x: np.ndarray) -> tuple[float, int]:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor_value_info(n, t, None)
            for n, t in (("s", TensorProto.FLOAT), ("z", TensorProto.UINT8))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    scale, zero = session.run(None, {"x": x.astype(np.float32)})
    return float(scale), int(zero)


@pytest.mark.parametrize(
    "bounds", [(-1.0, 2.0), (0.0, 6.0), (-0.17, 3.3), (-5.0, 0.0), (2.0, 3.0), (-1e-3, 1e-3)]
)
def test_affine_u8_equals_onnx_dynamic_quantize_linear(bounds: tuple[float, float]) -> None:
    scale, zero = dynamic_quantize_linear(np.array(bounds))
    found = qparams(*bounds, U8)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.zero_point == zero


def test_symmetric_covers_the_larger_side() -> None:
    assert qparams(-2.0, 1.0, I8).scale == pytest.approx(2.0 / 128)
    assert qparams(-1.0, 2.0, I8).scale == pytest.approx(2.0 / 127)
    assert qparams(-1.0, 2.0, I8).zero_point == 0


def test_constant_zero_tensor_has_a_usable_scale() -> None:
    assert qparams(0.0, 0.0, U8) == qparams(0.0, 0.0, U8)
    assert qparams(0.0, 0.0, U8).scale == 1.0
    assert qparams(0.0, 1e-30, U8).scale == SMALLEST_SCALE


def test_power_of_two_scale_rounds_up() -> None:
    scale = qparams(0.0, 3.0, QuantSpec(scale_kind="pow2")).scale
    assert scale == 2.0**-6
    assert scale * 255 >= 3.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_range_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        qparams(0.0, bad, U8)


def test_weight_scales_are_the_channel_maxima() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    want = weight.abs().amax(dim=(1, 2, 3)) / 127
    torch.testing.assert_close(weight_scales(weight, I8_WEIGHT), want, rtol=1e-6, atol=0)


def test_dead_channel_takes_another_channels_scale() -> None:
    weight = torch.zeros(3, 2)
    weight[0, 0], weight[1, 1] = 1.27, -2.54
    scales = weight_scales(weight, I8_WEIGHT)
    assert scales[2] == scales[1]
    assert torch.equal(weight_scales(torch.zeros(3, 2), I8_WEIGHT), torch.ones(3))


def test_weight_codes_stay_in_range_and_within_half_a_step() -> None:
    weight = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    code = quantize_weight(weight, I8_WEIGHT)
    assert code.codes.dtype == torch.int8
    assert int(code.codes.abs().max()) == 127
    error = (code.codes * code.scales[:, None] - weight).abs()
    assert bool((error <= code.scales[:, None] * 0.5001).all())


def test_scale_floor_keeps_the_bias_inside_int32() -> None:
    weight, bias = torch.full((1, 4), 1e-9), torch.tensor([5.0])
    floor = scale_floor(bias, input_scale=1e-3)
    assert floor is not None
    code = quantize_weight(weight, I8_WEIGHT, floor)
    assert float(bias / (code.scales * 1e-3)) < 2**31
    assert float(bias / (weight_scales(weight, I8_WEIGHT) * 1e-3)) > 2**31
