"""Clean files pass the rule checker, and are ONNX that others accept and run."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fxc.backends.tensorrt.checker import check_file
from tests.backends.tensorrt.checker_nets import DLA, DLA_NETS, FORMS, NETS, Build, Form

CLEAN = [(build, form) for build in NETS for form in FORMS.values()] + [(build, DLA) for build in DLA_NETS]


@pytest.mark.parametrize(("build", "form"), CLEAN, ids=[f"{b.__name__}-{f.tensorrt}" for b, f in CLEAN])
def test_a_clean_file_has_no_finding_and_runs(build: Build, form: Form, tmp_path: Path) -> None:
    model = build(form)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "net.onnx")
    assert check_file(tmp_path / "net.onnx", tensorrt=form.tensorrt, dla=form.dla) == []
    outputs = _run(tmp_path / "net.onnx")
    assert all(np.isfinite(out).all() and out.std() > 0 for out in outputs)


def _run(path: Path) -> list[np.ndarray]:
    """Node by node as written: ONNX Runtime's own fusions do not know float16 scales everywhere."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    return session.run(None, {"x": x})
