"""A detector's scores, 0 to 1, beside its boxes, in hundreds of pixels: they must come through the concats with their own scale.

Measured within each emitted file: what the score branches' last convolutions give there against the scores that leave the
file. What int8 does before those convolutions is another matter, and in a net of random weights a larger one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

import fxc
from tests.models.images import images
from tests.models.zoo import build

SIZE, BOXES = 64, 4
LEAST_SCORE, WITHIN, SURVIVE = 0.05, 0.02, 0.99
BRANCHES = tuple(f"head.score.{level}.2" for level in range(3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, _ = build("yolo", resolution=SIZE)
    data = images(16, SIZE, seed=1)
    artifact = fxc.compile(
        model, "jetson-int8", example_inputs=(data[:1],), calibration_data=data.split(8), verify=False
    )
    return Path(artifact.save(tmp_path_factory.mktemp("detector") / "bundle"))


def surviving(file: onnx.ModelProto, branches: list[str], x: Tensor) -> tuple[float, int]:
    """The share of the branches' scores above 0.05 that leave the file within 0.02, and how many there are."""
    final = file.graph.output[0].name
    file.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in branches)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run([final, *branches], {session.get_inputs()[0].name: x.numpy()})
    out, *logits = (torch.from_numpy(y).float() for y in found)
    wanted = torch.cat([y.flatten(2) for y in logits], 2).sigmoid()
    assert out[:, BOXES:].shape == wanted.shape
    assert out[:, :BOXES].abs().max() > 100, "boxes are in pixels"
    seen = wanted > LEAST_SCORE
    return float(((out[:, BOXES:] - wanted).abs() <= WITHIN)[seen].float().mean()), int(seen.sum())


@pytest.mark.parametrize("name", ["model.onnx", "model.typed.onnx"])
def test_scores_survive_the_concats(bundle: Path, name: str) -> None:
    tensors = fxc.load(bundle).manifest["tensors"]  # type: ignore[union-attr]
    branches = [tensors[label] for label in BRANCHES]
    share, count = surviving(onnx.load(bundle / name), branches, images(8, SIZE, seed=5))
    assert count > 10_000
    assert share >= SURVIVE


@pytest.mark.parametrize(("where", "fails"), [("last", True), ("first", False)])
def test_one_scale_for_both_would_be_seen(bundle: Path, where: str, fails: bool) -> None:
    """A quantizer on the last concat, its scale that of the boxes, ends the scores; logits in one code with others live."""
    file = onnx.load(bundle / "model.onnx")
    tensors = fxc.load(bundle).manifest["tensors"]  # type: ignore[union-attr]
    concats = [n for n in file.graph.node if n.op_type == "Concat" and n.name.startswith("head")]
    concat = concats[-1] if where == "last" else concats[0]
    plant(file, concat, 850 / 127 if where == "last" else 8 / 127)
    share, _ = surviving(file, [tensors[label] for label in BRANCHES], images(8, SIZE, seed=5))
    assert (share < 0.5) is fails


def plant(file: onnx.ModelProto, node: onnx.NodeProto, scale: float) -> None:
    """A quantizer and a dequantizer behind ``node``, at the place of its output."""
    graph, name = file.graph, node.output[0]
    node.output[0] = f"{name}.before"
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "planted.scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "planted.zero"))
    pair = [
        helper.make_node(
            "QuantizeLinear", [f"{name}.before", "planted.scale", "planted.zero"], ["planted.codes"]
        ),
        helper.make_node("DequantizeLinear", ["planted.codes", "planted.scale", "planted.zero"], [name]),
    ]
    place = list(graph.node).index(node) + 1
    for offset, made in enumerate(pair):
        graph.node.insert(place + offset, made)
