"""What ``jetson-int8`` writes: two files that ONNX Runtime runs and the rule checker passes, and the kit for the device."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import fxc
from fxc.backends.tensorrt.checker import check_file
from fxc.backends.tensorrt.kit import copied
from tests.models.metrics import sqnr_db

FORMS = [("model.onnx", "8.5"), ("model.onnx", "10.3"), ("model.typed.onnx", "11.4")]


class Everything(nn.Module):
    """Convolutions, a residual sum, a gate, attention, norms, an upsampling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.gate = nn.Conv2d(16, 16, 1)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.mlp = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.block(x) + x)
        x = x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        x = F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0)
        tokens = x.flatten(2).transpose(1, 2)
        inner = self.norm(tokens)
        tokens = tokens + self.attend(inner, inner, inner, need_weights=False)[0]
        tokens = tokens + self.mlp(self.norm(tokens))
        return self.head(tokens.mean(1))


@pytest.fixture(scope="module")
def data() -> Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(data: Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = Everything()
    net(data)
    return net.eval()


@pytest.fixture(scope="module", params=["jetson-int8", "jetson-fp16"])
def bundle(
    request: pytest.FixtureRequest, model: nn.Module, data: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    artifact = fxc.compile(model, request.param, example_inputs=(data[:1],), calibration_data=[data])
    return Path(artifact.save(tmp_path_factory.mktemp("bundles") / request.param))


def run(file: Path, x: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@pytest.mark.parametrize(("name", "version"), FORMS)
def test_the_rule_checker_finds_no_error(bundle: Path, name: str, version: str) -> None:
    assert [f for f in check_file(bundle / name, tensorrt=version) if f.severity == "error"] == []


@pytest.mark.parametrize("name", ["model.onnx", "model.typed.onnx"])
def test_both_files_answer_as_the_model_does(bundle: Path, model: nn.Module, data: Tensor, name: str) -> None:
    with torch.no_grad():
        want = model(data)
    assert sqnr_db(want, run(bundle / name, data)) > (25.0 if "int8" in bundle.name else 45.0)


def test_the_report_has_both(bundle: Path) -> None:
    rows = fxc.load(bundle).report["accuracy"]["outputs"]
    assert [row.get("file") for row in rows] == [None, "model.typed.onnx"]
    assert all(row["file_db"] > row["graph_db"] - 1.0 for row in rows if "int8" in bundle.name)


def test_types_of_the_typed_file(bundle: Path) -> None:
    graph = onnx.shape_inference.infer_shapes(onnx.load(bundle / "model.typed.onnx"), strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {w.name: w.data_type for w in graph.initializer}
    assert {types[v.name] for v in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}
    for node in graph.node:
        wide = node.op_type in ("Softmax", "LayerNormalization", "ReduceMean")
        if wide or node.op_type in ("Conv", "MatMul", "Gemm", "Add", "Mul"):
            wanted = onnx.TensorProto.FLOAT if wide else onnx.TensorProto.FLOAT16
            found = {types[name] for name in node.input if name in types}
            assert found <= {wanted, onnx.TensorProto.INT64}, (node.name, found)


def test_codes_come_back_from_float_weights(model: nn.Module, data: Tensor, tmp_path: Path) -> None:
    """TensorRT 8 reads weights as floats behind a quantizer; they must be the codes that the typed file holds."""
    artifact = fxc.compile(model, "jetson-int8", example_inputs=(data[:1],), calibration_data=[data])
    folder = Path(artifact.save(tmp_path / "bundle"))
    plain, typed = (onnx.load(folder / name).graph for name in ("model.onnx", "model.typed.onnx"))
    weights = {w.name: numpy_helper.to_array(w) for w in plain.initializer}
    codes = [w for w in map(numpy_helper.to_array, typed.initializer) if w.dtype == np.int8 and w.ndim > 1]
    quantizers = [n for n in plain.node if n.op_type == "QuantizeLinear" and n.input[0] in weights]
    assert len(quantizers) == len(codes) > 5
    for node in quantizers:
        values, scale = weights[node.input[0]], weights[node.input[1]]
        axis = next(a.i for a in node.attribute if a.name == "axis")
        steps = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        again = np.round(values / steps)
        assert any(c.shape == again.shape and np.array_equal(c, again) for c in codes), node.name


def test_the_kit(bundle: Path) -> None:
    for name in ("build_engine.py", "run_engine.py"):
        # JetPack 4.6 has Python 3.6.
        ast.parse((bundle / name).read_text(encoding="utf-8"), feature_version=(3, 6))
    commands = (bundle / "trtexec.txt").read_text(encoding="utf-8").splitlines()
    assert ("--int8" in commands[1]) == ("int8" in bundle.name)
    assert "--fp16" in commands[1]
    assert not {"--fp16", "--int8"} & set(commands[3].split())
    assert "--optShapes=x:1x3x16x16" in commands[3]
    assert any("built on the device" in note for note in fxc.load(bundle).manifest["notes"])


def test_a_static_batch_needs_no_shapes(tmp_path: Path) -> None:
    copied.copy_kit(tmp_path, copied.Plan(True, (copied.ForVersions("model.onnx", (8,), None, "all"),)))
    assert "Shapes" not in (tmp_path / "trtexec.txt").read_text(encoding="utf-8")


class Faint(nn.Module):
    """Weights whose scales float16 rounds badly, or to nothing, and activations in its range."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1)
        self.factor = factor
        with torch.no_grad():
            self.first.weight.mul_(factor)
            self.first.weight[:4].mul_(1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x / self.factor) * 1.0)


@pytest.mark.parametrize("factor", [1.0, 1e-2, 1e-4])
def test_scales_that_float16_cannot_hold(factor: float, data: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Faint(factor).eval()
    artifact = fxc.compile(
        net, "jetson-int8", example_inputs=(data[:1],), calibration_data=[data], equalize=False
    )
    folder = Path(artifact.save(tmp_path / "bundle"))
    errors = [f for f in check_file(folder / "model.typed.onnx", tensorrt="11.4") if f.severity == "error"]
    assert errors == []
    plain, typed = (run(folder / name, data) for name in ("model.onnx", "model.typed.onnx"))
    assert sqnr_db(plain, typed) > 35.0


class Loud(nn.Module):
    """Activations between quantizers beyond what float16 holds, behind a tensor that two layers read, one of them in its range."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.quiet = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.loud = nn.Conv2d(16, 16, 3, padding=1)
        self.last, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(144, 10)
        with torch.no_grad():
            self.loud.weight.mul_(1e6)
            self.head.weight.mul_(1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        loud, quiet = torch.relu(self.loud(x)), self.quiet(x)
        loud = torch.relu(self.last(loud) + loud)
        return (
            self.head(F.adaptive_avg_pool2d(F.max_pool2d(loud, 2), 3).flatten(1)) + quiet.mean((2, 3))[:, :10]
        )


def test_activations_that_float16_cannot_hold(data: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    artifact = fxc.compile(
        Loud().eval(), "jetson-int8", example_inputs=(data[:1],), calibration_data=[data], equalize=False
    )
    folder = Path(artifact.save(tmp_path / "bundle"))
    file = onnx.load(folder / "model.typed.onnx")
    scales = {i.name: numpy_helper.to_array(i) for i in file.graph.initializer}
    of = {n.name: scales[n.input[1]] for n in file.graph.node if n.op_type == "QuantizeLinear"}
    assert any(float(s.max()) * 128 > 65504 for s in of.values())
    assert {s.dtype for s in of.values()} == {np.dtype(np.float16), np.dtype(np.float32)}
    errors = [f for f in check_file(folder / "model.typed.onnx", tensorrt="11.4") if f.severity == "error"]
    assert errors == []
    plain, typed = (run(folder / name, data) for name in ("model.onnx", "model.typed.onnx"))
    assert sqnr_db(plain, typed) > 35.0


@pytest.mark.parametrize(
    "last", [nn.Softmax(1), nn.LogSoftmax(1), nn.CELU(0.5)], ids=["softmax", "log_softmax", "celu"]
)
def test_a_float32_operator_as_the_last_one(last: nn.Module, data: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), last).eval()
    artifact = fxc.compile(net, "jetson-fp16", example_inputs=(data[:1],))
    with torch.no_grad():
        assert sqnr_db(net(data), run(artifact.path / "model.typed.onnx", data)) > 45.0
