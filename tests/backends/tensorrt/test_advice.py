"""Where int8 does not pay: each sentence with a net that gets it and one that does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.tensorrt.legal import check
from fxc.backends.tensorrt.target import JETSON_FP16, JETSON_INT8
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize


def program_of(*layers: nn.Module) -> Program:
    net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), *layers).eval()
    return run_pipeline(fxc.capture(net, (torch.zeros(1, 3, 8, 8),)), optimize())


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True)


def conv(cin: int, cout: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, padding=1, groups=groups)


CASES = {
    "depthwise": ([conv(64, 64, 64)], "depthwise"),
    "groups of two": ([conv(64, 64, 32)], "multiple of 4 channels"),
    "few channels": ([conv(64, 8)], "small part of an int8 kernel"),
    "padded width": ([conv(64, 72)], "TensorRT pads to 96"),
    "interpolation": ([nn.Upsample(scale_factor=2, mode="bilinear"), conv(64, 64)], "in float between int8 layers"),
    "gate": ([Gate(), conv(64, 64)], "mul runs in float between"),
}  # fmt: skip
CLEAN = {
    "groups of four": [conv(64, 64, 16)],
    "first layer of three channels": [],
    "nearest": [nn.Upsample(scale_factor=2), conv(64, 64)],
    "float at the end": [nn.Upsample(scale_factor=2, mode="bilinear")],
}


@pytest.mark.parametrize("case", CASES)
def test_said(case: str) -> None:
    layers, said = CASES[case]
    (found,) = check(program_of(*layers), JETSON_INT8)
    assert said in found.rule
    assert not found.fatal
    assert found.layer != "0"
    assert check(program_of(*layers), JETSON_FP16) == []


@pytest.mark.parametrize("case", CLEAN)
def test_not_said(case: str) -> None:
    assert check(program_of(*CLEAN[case]), JETSON_INT8) == []


def test_the_report_says_it_and_the_compile_goes_on() -> None:
    net = nn.Sequential(conv(3, 64), conv(64, 64, 64)).eval()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    artifact = fxc.compile(net, "jetson-int8", example_inputs=(x,), calibration_data=[x])
    assert [n["layer"] for n in artifact.report["notes"] if "depthwise" in n["text"]] == ["1"]
