"""The fourteen models for ``jetson-int8``: both files judged by ONNX Runtime and by the rule checker.

The typed file rounds its float parts to eleven bits. What that may cost is measured beside it: the other file's decibels when
its input is moved by as much. On small images through random weights that is up to three.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import fxc
from fxc.backends.tensorrt.checker import check_file
from tests.conformance.test_models import RESOLUTION
from tests.models.images import images
from tests.models.metrics import sqnr_db
from tests.models.zoo import NAMES, build

ATTENTION = ("scaled_dot_product_attention", "matmul", "bmm")
LEAST = 0.97


def outputs(file: Path, x: Tensor) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(y) for y in session.run(None, {session.get_inputs()[0].name: x.numpy()})]


def worst(want: list[Tensor], found: list[Tensor]) -> float:
    return min(sqnr_db(a, b) for a, b in zip(want, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_model(name: str, tmp_path: Path) -> None:
    size = RESOLUTION.get(name, 96)
    model, _ = build(name, resolution=size)
    data = images(16, size, seed=1)
    artifact = fxc.compile(model, "jetson-int8", example_inputs=(data[:1],), calibration_data=data.split(8))
    plain, typed = (Path(artifact.save(tmp_path / "bundle")) / n for n in ("model.onnx", "model.typed.onnx"))
    for row in artifact.report["accuracy"]["outputs"]:
        assert row["lost_db"] <= 1.0 or row.get("file"), row
    assert_typed(model, plain, typed, data[:8])
    for file, version in ((plain, "8.5"), (plain, "10.3"), (typed, "11.4")):
        found = [f for f in check_file(file, tensorrt=version) if f.severity == "error"]
        assert found == [], (file.name, version)
    layers = [row for row in artifact.report["layers"] if row["op"] not in ATTENTION]
    assert sum(r["macs"] for r in layers if r["quantized"]) >= LEAST * sum(r["macs"] for r in layers)
    assert all(row["reason"] for row in artifact.report["float_tensors"])


def assert_typed(model: torch.nn.Module, plain: Path, typed: Path, x: Tensor) -> None:
    with torch.no_grad():
        want = [y for y in pytree.tree_leaves(model(x)) if isinstance(y, Tensor)]
    random = torch.Generator().manual_seed(0)
    moved = [x * (1 + torch.randn(x.shape, generator=random) * 2**-12) for _ in range(2)]
    least = min(worst(want, outputs(plain, each)) for each in (x, *moved))
    assert worst(want, outputs(typed, x)) >= least - 1.0
