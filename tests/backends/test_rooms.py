"""Both CPU rooms, side by side: emit a hand-made int8 net, load it, run it, count its integer kernels."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxc.backends.openvino import emit as openvino_emit
from fxc.backends.openvino import legal as openvino_legal
from fxc.backends.openvino import run as openvino_run
from fxc.backends.openvino.target import CPU_BF16, CPU_FP32, CPU_INT8
from fxc.backends.ort import emit as ort_emit
from fxc.backends.ort import legal as ort_legal
from fxc.backends.ort import run as ort_run
from fxc.backends.ort.target import ORT_FP32, ORT_INT8
from fxc.compiler.capture import capture
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.program import Program
from fxc.passes.canonicalize import Canonicalize
from tests.backends.int8 import Int8Net
from tests.conformance.case import Fn

ROOMS = {
    "openvino": (openvino_emit.emit, openvino_run.load, CPU_INT8),
    "ort": (ort_emit.emit, ort_run.load, ORT_INT8),
}
IMAGE = 2 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def program_of(module: nn.Module, *inputs: Tensor) -> Program:
    return Canonicalize().apply(capture(module.eval(), inputs)).program


@pytest.fixture(scope="module")
def int8() -> Program:
    return program_of(Int8Net(), IMAGE)


class FloatNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("room", ROOMS)
def test_a_quantized_net_runs_on_integers(room: str, int8: Program, tmp_path: Path) -> None:
    emit, load, target = ROOMS[room]
    emitted = emit(int8, target, tmp_path)
    runner = load(tmp_path / emitted.model, target, threads=1)
    (found,) = runner([IMAGE.numpy()])
    expected = int8.run_flat(IMAGE)[0].numpy()
    assert np.abs(found - expected).max() <= 2**-3
    assert (found != expected).mean() < 0.2
    kernels = {k.layer: k for k in runner.kernels()}
    assert set(kernels) == {"first.conv2d", "second.conv2d", "head.linear"}
    assert all(k.integer for k in kernels.values()), kernels


@pytest.mark.parametrize("room", ROOMS)
def test_a_float_net_has_no_integer_kernel(room: str, tmp_path: Path) -> None:
    emit, load, _ = ROOMS[room]
    target = {"openvino": CPU_FP32, "ort": ORT_FP32}[room]
    program = program_of(FloatNet(), IMAGE)
    emitted = emit(program, target, tmp_path)
    runner = load(tmp_path / emitted.model, target, threads=1)
    np.testing.assert_allclose(runner([IMAGE.numpy()])[0], program.run_flat(IMAGE)[0].numpy(), atol=1e-5)
    assert len(runner.kernels()) == 2
    assert not any(k.integer for k in runner.kernels())


@pytest.mark.parametrize("room", ROOMS)
def test_another_batch(room: str, int8: Program, tmp_path: Path) -> None:
    emit, load, target = ROOMS[room]
    emitted = emit(int8, target, tmp_path)
    runner = load(tmp_path / emitted.model, target, threads=1)
    whole = runner([IMAGE.numpy()])[0]
    for i in range(2):
        np.testing.assert_allclose(runner([IMAGE[i : i + 1].numpy()])[0], whole[i : i + 1], atol=2**-3)


@pytest.mark.parametrize("room", ROOMS)
def test_exposed_tensors(room: str, tmp_path: Path) -> None:
    emit, load, _ = ROOMS[room]
    target = {"openvino": CPU_FP32, "ort": ORT_FP32}[room]
    module = FloatNet().eval()
    program = program_of(module, IMAGE)
    emitted = emit(program, target, tmp_path)
    names = (emitted.tensors["relu"], emitted.outputs[0], emitted.tensors["conv"])
    runner = load(tmp_path / emitted.model, target, threads=1, expose=names)
    assert runner.outputs == (*emitted.outputs, *names)
    with torch.no_grad():
        conv = module.conv(IMAGE)
        expected = [module(IMAGE), conv.relu(), module(IMAGE), conv]
    for got, want in zip(runner([IMAGE.numpy()]), expected):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


@pytest.mark.parametrize("room", ROOMS)
def test_an_unknown_tensor_or_file_is_refused(room: str, int8: Program, tmp_path: Path) -> None:
    emit, load, target = ROOMS[room]
    with pytest.raises(ArtifactError, match="no model file"):
        load(tmp_path / "none.onnx", target)
    emitted = emit(int8, target, tmp_path)
    with pytest.raises(ArtifactError, match="nowhere"):
        load(tmp_path / emitted.model, target, expose=("nowhere",))
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ToolchainError, match=r"broken\.onnx"):
        load(tmp_path / "broken.onnx", target)


@pytest.mark.parametrize("room", ROOMS)
def test_a_missing_runtime_names_the_extra(
    room: str, int8: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emit, load, target = ROOMS[room]
    emitted = emit(int8, target, tmp_path)
    monkeypatch.setitem(sys.modules, {"openvino": "openvino", "ort": "onnxruntime"}[room], None)
    with pytest.raises(ToolchainError, match="not installed") as caught:
        load(tmp_path / emitted.model, target)
    assert "fxc[cpu]" in (caught.value.fix or "")


def test_openvino_names_its_hint_and_keeps_it(tmp_path: Path) -> None:
    program = program_of(FloatNet(), IMAGE)
    emitted = openvino_emit.emit(program, CPU_BF16, tmp_path)
    exact = openvino_run.load(tmp_path / emitted.model, CPU_BF16, precision="f32")
    coarse = openvino_run.load(tmp_path / emitted.model, CPU_BF16)
    assert "f32" in exact.describe
    assert "bf16" in coarse.describe
    expected = program.run_flat(IMAGE)[0].numpy()
    error = np.abs(exact([IMAGE.numpy()])[0] - expected).max()
    assert error < 1e-5


def test_onnx_runtime_has_no_bf16(int8: Program, tmp_path: Path) -> None:
    emitted = ort_emit.emit(int8, ORT_INT8, tmp_path)
    with pytest.raises(ToolchainError, match="bf16"):
        ort_run.load(tmp_path / emitted.model, ORT_INT8, precision="bf16")


@pytest.mark.parametrize("check", [openvino_legal.check, ort_legal.check])
def test_what_has_no_onnx_form_is_a_violation(check: Any) -> None:
    program = program_of(Fn(lambda x: torch.linalg.inv(x)), IMAGE)
    (violation,) = check(program, CPU_INT8)
    assert "linalg_inv" in violation.rule
    assert check(program_of(FloatNet(), IMAGE), CPU_INT8) == []


def test_targets_are_plain_data() -> None:
    for target in (CPU_INT8, CPU_FP32, CPU_BF16, ORT_INT8, ORT_FP32):
        assert target.quantized == (target.precision == "int8")
    assert CPU_INT8.scheme is not None
    assert ORT_INT8.scheme is not None
    for scheme in (CPU_INT8.scheme, ORT_INT8.scheme):
        conv, row, rows = (
            scheme.rule_for(op, rank) for op, rank in (("conv2d", 4), ("linear", 2), ("linear", 3))
        )
        assert conv
        assert conv.bias == "int32"
        assert conv.weight
        assert conv.weight.axis == 0
        for rule, dtype in ((conv, "uint8"), (row, "uint8"), (rows, "int8")):
            assert rule
            assert rule.inputs
            assert rule.inputs.dtype == dtype
