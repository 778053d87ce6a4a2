"""Emitted models: names, bytes, batches, placement, and the numbers of a small net in every precision."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.coreai.emit import emit
from fxc.backends.coreai.legal import check
from fxc.backends.coreai.run import load
from fxc.backends.coreai.target import COREAI_FP16, COREAI_FP32, COREAI_INT8, TARGETS
from fxc.compiler.capture import capture
from fxc.compiler.errors import LegalityError
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from tests.models.metrics import sqnr_db

pytestmark = pytest.mark.slow
needed = pytest.mark.usefixtures("core_ai")


class Net(nn.Module):
    """A residual block, a concat, a gate, a pool and a linear layer; its inputs are called ``picture`` and ``bias``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.left, self.right = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.gate = nn.Sequential(nn.Conv2d(64, 64, 1), nn.Hardswish())
        self.head = nn.Linear(64, 10)

    def forward(self, picture: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(picture)
        y = torch.relu(x + self.left(x))
        z = self.gate(torch.cat([y, self.right(x)], 1))
        return self.head(z.mean((2, 3))) + bias, z.amax((2, 3))


CHANCE = torch.Generator().manual_seed(1)
X, B = torch.randn(8, 3, 16, 16, generator=CHANCE), torch.randn(8, 10, generator=CHANCE)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    net(torch.randn(16, 3, 16, 16), torch.zeros(16, 10))
    return net.eval()


@pytest.fixture(scope="module")
def program(net: nn.Module) -> Program:
    program = capture(net, (X[:2], B[:2]))
    for step in optimize():
        program = step.apply(program).program
    return program


def arrays(count: int = 8) -> list[np.ndarray]:
    return [X[:count].numpy(), B[:count].numpy()]


def wanted(net: nn.Module, count: int = 8) -> list[Tensor]:
    with torch.no_grad():
        return list(net(X[:count], B[:count]))


@needed
def test_float32(net: nn.Module, program: Program, tmp_path: Path) -> None:
    emitted = emit(program, COREAI_FP32, tmp_path)
    assert (emitted.inputs, len(emitted.outputs)) == (("picture", "bias"), 2)
    assert {"stem.0", "left", "right", "gate.0", "head"} <= set(emitted.tensors)
    assert all((tmp_path / name).is_file() for name in emitted.files)
    runner = load(tmp_path / emitted.model)
    found = runner(arrays())
    # One after the other where the file takes one.
    for want, got in zip(wanted(net), found, strict=True):
        assert got.shape == want.shape
        assert sqnr_db(want, torch.from_numpy(got)) > 100
    kernels = {k.layer: k.integer for k in runner.kernels()}
    assert set(kernels) == {emitted.tensors[name] for name in ("stem.0", "left", "right", "gate.0", "head")}
    assert not any(kernels.values())


@needed
def test_float16_and_what_varies(net: nn.Module, program: Program, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emitted = emit(program, COREAI_FP16, tmp_path / name)
        steady = sorted(set(emitted.files) - set(emitted.varies))
        digests.append([hashlib.sha256((tmp_path / name / f).read_bytes()).hexdigest() for f in steady])
    assert digests[0] == digests[1]
    assert steady == ["model.aimodel/metadata.json"]
    found = load(tmp_path / "a" / emitted.model)(arrays(1))
    for want, got in zip(wanted(net, 1), found, strict=True):
        assert got.dtype == np.float32
        assert 45 < sqnr_db(want, torch.from_numpy(got)) < 100


@needed
def test_eight_bits(net: nn.Module, tmp_path: Path) -> None:
    artifact = fxc.compile(net, "coreai-int8", example_inputs=(X[:1], B[:1]), calibration_data=[(X, B)])
    (first, second) = artifact.report["accuracy"]["outputs"]
    for row in (first, second):
        # What float16 between the codes costs shows above 40 dB.
        assert row["file_db"] > min(row["graph_db"] - 1, 40)
    assert "Core AI runtime" in artifact.report["accuracy"]["how"]
    kernels = artifact.report["kernels"]
    assert kernels["planned"]
    assert (kernels["integer"], kernels["float"]) == (5, 0), kernels
    assert artifact.manifest["tools"]["coreai-torch"] == "0.4.3"
    # With float32 between the codes the runtime gives the graph's own numbers.
    exact = emit(artifact.program, replace(COREAI_INT8, options={"floats": "float32"}), tmp_path)
    found = load(tmp_path / exact.model)(arrays(2))
    for want, got in zip(artifact.program.run_flat(X[:2], B[:2]), found, strict=True):
        np.testing.assert_array_equal(got, want.numpy())


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x, -1)[0]


def test_what_cannot_be_written_is_named_with_its_line() -> None:
    (violation,) = check(capture(Sorted(), (torch.randn(2, 4),)), COREAI_FP16)
    assert "sort" in violation.rule
    assert violation.fatal
    assert Path(__file__).name in str(violation.source)
    with pytest.raises(LegalityError, match="sort"):
        fxc.compile(Sorted(), "coreai-fp16", example_inputs=(torch.randn(1, 4),))


@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.AvgPool2d(3, 2, ceil_mode=True), "ceil_mode"),
        (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), "padding"),
        (nn.AdaptiveAvgPool2d(11), "more than its input"),
        (nn.Upsample(scale_factor=1.5), "whole number"),
    ],
)
def test_what_it_gets_wrong_is_refused(layer: nn.Module, word: str) -> None:
    program = capture(layer.eval(), (torch.randn(2, 3, 8, 8),))
    for step in optimize():
        program = step.apply(program).program
    assert any(word in v.rule for v in check(program, COREAI_FP32))


def test_what_it_gets_right_is_not() -> None:
    layers = nn.Sequential(
        nn.AvgPool2d(3, 2, padding=1), nn.AdaptiveAvgPool2d(2), nn.Upsample(scale_factor=2)
    )
    program = capture(layers.eval(), (torch.randn(2, 3, 8, 8),))
    for step in optimize():
        program = step.apply(program).program
    assert check(program, COREAI_FP32) == []


def test_targets() -> None:
    assert [t.name for t in TARGETS] == ["coreai-fp16", "coreai-fp32", "coreai-int8"]
    scheme = COREAI_INT8.scheme
    assert scheme is not None
    conv = scheme.rule_for("conv2d", 4)
    assert conv is not None
    assert conv.weight is not None
    assert (conv.weight.dtype, conv.weight.axis, conv.weight.symmetric) == ("int8", 0, True)
    for op in ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "reshape", "cat"):
        rule = scheme.rule_for(op, 4)
        assert rule is not None
        assert rule.share
