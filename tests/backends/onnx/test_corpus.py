"""Every operator case as ONNX at opsets 13, 17 and 19: the checker, ONNX Runtime and OpenVINO against eager PyTorch."""

import functools
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch.utils import _pytree as pytree

from fxc.backends.onnx.emit import emit
from fxc.backends.onnx.legal import lowerable
from fxc.compiler.capture import capture
from fxc.compiler.program import Program
from fxc.passes.canonicalize import Canonicalize
from tests.conformance.corpus import corpus

CASES = corpus()


@functools.cache
def program_of(name: str) -> Program:
    case = CASES[name]
    return Canonicalize().apply(capture(case.module, case.inputs)).program


def run_ort(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs)})


def run_openvino(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({port: list(x.shape) for port, x in zip(model.inputs, inputs)})
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    )
    results = compiled(list(inputs))
    return [results[i] for i in range(len(model.outputs))]


def assert_equal(found: list[np.ndarray], module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        expected = [t.numpy() for t in pytree.tree_leaves(module(*inputs))]
    assert len(found) == len(expected)
    for got, want in zip(found, expected):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        if want.dtype.kind == "f":
            finite = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * finite)
        else:
            np.testing.assert_array_equal(got, want)


def other_batch(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat([x, x.flip(0), x[:1]]) for x in inputs)


@pytest.mark.parametrize("name", CASES)
def test_onnx_equals_eager(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    program = program_of(name)
    for opset in (13, 17, 19):
        if opset < case.since:
            assert any(lowerable(n, opset=opset) for n in program.graph.nodes)
            continue
        assert not [reason for n in program.graph.nodes if (reason := lowerable(n, opset=opset))]
        path = tmp_path / f"{opset}.onnx"
        emit(program, path, opset=opset)
        assert_equal(run_ort(path, case.inputs), case.module, case.inputs)
        if program.dynamic and case.batched:
            inputs = other_batch(case.inputs)
            assert_equal(run_ort(path, inputs), case.module, inputs)
    if case.batched:
        assert program.dynamic


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.since <= 17])
def test_openvino_equals_eager(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    emit(program_of(name), tmp_path / "m.onnx", opset=17, batch=2)
    assert_equal(run_openvino(tmp_path / "m.onnx", case.inputs), case.module, case.inputs)
