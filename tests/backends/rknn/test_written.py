"""The numbers in the toolkit's file: read by the toolkit's rule, they are the ones that are meant."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import fxc
from fxc.compiler.artifact import Artifact

Array = np.ndarray[Any, Any]


class Net(nn.Module):
    """Weights of both signs up to the edge, a bias, and a tanh whose range is symmetric: its zero point is 0 or near."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2, groups=2)
        self.fc = nn.Linear(4 * 144, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.up(self.conv(x).tanh()).flatten(1))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FXC_CACHE", str(tmp_path_factory.mktemp("no toolkit here")))
        torch.manual_seed(0)
        images = torch.randn(8, 3, 8, 8)
        # Both signs of every image: the ranges are symmetric.
        data = torch.cat([images, -images])
        yield fxc.compile(
            Net().eval(), "rk3588-int8", example_inputs=(data[:1],), calibration_data=data.split(4)
        )


def quantized(file: Path) -> dict[str, tuple[Array | None, Array, Array]]:
    """By node: codes where they are constant, scale, zero point."""
    graph = onnx.load(file).graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = known[node.input[1]]
            zero = known[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, np.int32)
            found[node.name] = (known.get(node.input[0]), scale, zero)
    return found


def as_the_toolkit_reads(codes: Array | None, scale: Array, zero: Array) -> tuple[Array | None, Array]:
    """What version 2.5.0 was seen to make of a symmetric int8 tensor: a scale 128/127 as large, and codes for it."""
    if np.any(zero) or (codes is not None and codes.dtype == np.int32):
        return codes, scale
    return None if codes is None else np.rint(codes * (127 / 128)), scale * np.float32(128 / 127)


def test_the_toolkit_arrives_at_what_is_meant(artifact: Artifact) -> None:
    meant = quantized(artifact.model)
    written = quantized(artifact.model.with_name("model.toolkit.onnx"))
    assert meant.keys() == written.keys()
    changed = 0
    for name, (codes, scale, zero) in meant.items():
        read_codes, read_scale = as_the_toolkit_reads(*written[name])
        np.testing.assert_allclose(read_scale, scale, rtol=3e-7)
        np.testing.assert_array_equal(written[name][2], zero)
        if codes is not None and read_codes is not None:
            np.testing.assert_array_equal(read_codes, codes)
        changed += not np.array_equal(written[name][1], scale)
    # The weights of the three layers at least.
    assert changed >= 3


def test_no_weight_has_the_code_that_the_toolkit_loses(artifact: Artifact) -> None:
    weights = [codes for codes, _, _ in quantized(artifact.model).values() if codes is not None]
    int8 = [codes for codes in weights if codes.dtype == np.int8]
    assert len(int8) == 3
    assert max(codes.max() for codes in int8) == 126
    assert min(codes.min() for codes in int8) >= -127


def test_every_quantizer_of_the_toolkits_file_has_a_zero_point(artifact: Artifact) -> None:
    graph = onnx.load(artifact.model.with_name("model.toolkit.onnx")).graph
    found = [len(n.input) for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert found
    assert set(found) == {3}


def test_without_the_toolkit_the_rest_is_there(artifact: Artifact) -> None:
    assert not artifact.model.with_name("model.rknn").exists()
    assert any("fxc toolchain install rknn" in note for note in artifact.manifest["notes"])
    (row,) = artifact.report["accuracy"]["outputs"]
    assert abs(row["lost_db"]) < 0.5
    assert artifact.report["kernels"]["mac_coverage"] == 1.0
    assert artifact.report["kernels"]["planned"]


def test_the_file_takes_one_sample_and_the_artifact_a_batch(artifact: Artifact) -> None:
    graph = onnx.load(artifact.model).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(artifact(x), torch.cat([artifact(row[None]) for row in x]))
