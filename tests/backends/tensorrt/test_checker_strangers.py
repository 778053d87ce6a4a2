"""The checker on files that ONNX Runtime's quantizer wrote, and on the checker's own imports."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fxc.backends.tensorrt.checker import check_file

SYMMETRIC = {
    "activation_type": QuantType.QInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
    "extra_options": {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False},
}


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self._images: Iterator[dict[str, np.ndarray]] = iter(
            {"x": random.normal(size=(1, 3, 16, 16)).astype(np.float32)} for _ in range(4)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._images, None)


def float_net() -> onnx.ModelProto:
    """Convolution, ReLU, max pool, convolution, in float."""
    random = np.random.default_rng(5)
    weights = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "c1"),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["y"], "c2"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 5, 5])],
        [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized(folder: Path, **options: Any) -> Path:
    """That net through ONNX Runtime's static quantizer."""
    onnx.save(float_net(), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", _Images(), quant_format=QuantFormat.QDQ, **options
    )
    return folder / "int8.onnx"


def test_symmetric_pairs_of_onnx_runtime_are_legal(tmp_path: Path) -> None:
    """Only slow: it splits convolution and ReLU, and quantizes the network's output, which nobody reads in int8."""
    found = check_file(quantized(tmp_path, **SYMMETRIC), tensorrt="8.5")
    assert {f.severity for f in found} == {"slow"}
    assert [(f.rule, f.node) for f in found] == [
        ("before-activation", "r1"),
        ("unused-pair", "y_DequantizeLinear"),
    ]


def test_its_defaults_are_not(tmp_path: Path) -> None:
    """Asymmetric uint8 activations, integer biases, weights as codes: each is an error of its own."""
    found = check_file(quantized(tmp_path, activation_type=QuantType.QUInt8), tensorrt="8.5")
    assert {f.rule for f in found if f.severity == "error"} == {
        "code-type",
        "zero-point-value",
        "weight-codes",
        "bias-codes",
    }


def test_its_integer_operators_are_not_parsed(tmp_path: Path) -> None:
    onnx.save(float_net(), tmp_path / "float.onnx")
    path = tmp_path / "int8.onnx"
    quantize_static(tmp_path / "float.onnx", path, _Images(), quant_format=QuantFormat.QOperator)
    assert "not-parsed" in {f.rule for f in check_file(path, tensorrt="10.3")}


@pytest.mark.parametrize("tensorrt", ["8.2", "8.5", "10.3", "11.4"])
def test_a_float_file_has_nothing_to_find(tensorrt: str, tmp_path: Path) -> None:
    model = float_net()
    model.opset_import[0].version = 13
    onnx.save(model, tmp_path / "float.onnx")
    assert check_file(tmp_path / "float.onnx", tensorrt=tensorrt) == []


def test_the_checker_shares_nothing_with_what_it_judges() -> None:
    code = "import fxc.backends.tensorrt.checker, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" not in loaded
    ours = {name for name in loaded if name.split(".")[0] == "fxc"}
    allowed = ("fxc.backends.tensorrt.checker", "fxc.compiler.errors")
    packages = {"fxc", "fxc.backends", "fxc.backends.tensorrt", "fxc.compiler"}
    assert {name for name in ours if not name.startswith(allowed)} == packages
