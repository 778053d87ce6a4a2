"""Whole models for ``jetson-int8-dla``: the files for TensorRT up to 10.7 mean, bit for bit, what was executed here."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import fxc
from fxc.backends.tensorrt.checker import check_file
from tests.backends.tensorrt.dla_nets import PLAIN, float16_layers, float_tensors, meant, scales
from tests.backends.tensorrt.test_dla import on_gpu, run
from tests.models.images import images
from tests.models.metrics import sqnr_db
from tests.models.zoo import build

NATIVE = ("resnet18", "mobilenet_v2", "squeezenet1_1")
"""All of whose layers the accelerator has."""
MIXED = ("mobilenet_v3_small", "regnet_y_400mf", "convnext_tiny")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NATIVE, *MIXED])
def test_model(name: str, tmp_path: Path) -> None:
    size = 96 if name == "squeezenet1_1" else 64
    model, _ = build(name, resolution=size)
    data = images(4, size, seed=1)
    artifact = fxc.compile(
        model,
        "jetson-int8-dla",
        example_inputs=(data[:1],),
        dynamic_batch=False,
        calibration_data=data.split(1),
        jetpack="5.1",
    )
    folder = Path(artifact.save(tmp_path / "bundle"))
    assert scales(folder).keys() == float_tensors(onnx.load(folder / PLAIN))
    assert bool(float16_layers(folder)) == (name in MIXED)
    found = check_file(folder / PLAIN, tensorrt="8.5", dla=True)
    assert {f.node.split("/")[0] for f in found} <= on_gpu(folder)
    want, again = run(folder / "model.onnx", data[:1]), run(meant(folder).SerializeToString(), data[:1])
    assert min(sqnr_db(a, b) for a, b in zip(want, again, strict=True)) > 60.0
