"""What the Neural Engine does not like: each finding and a layer that has none of it; large windows and odd strides rewritten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.coreml.engine_windows import EngineWindows
from fxc.backends.coreml.legal import check
from fxc.backends.coreml.target import IPHONE_FP16, IPHONE_FP32, IPHONE_INT8
from tests.backends.coreml.engine_nets import Vit, optimized
from tests.passes.checks import Fn, operators, run

IMAGE = torch.rand(1, 3, 20, 20)
TOKENS = torch.rand(2, 6, 8)


def _windows(x: Tensor) -> Tensor:
    return x.view(1, 3, 10, 2, 10, 2).permute(0, 2, 4, 1, 3, 5).reshape(100, 3, 4)


CASES: dict[str, tuple[str, Any, Any, Tensor]] = {
    # words of the finding, what has it, what has not, their input
    "rank": ("rank 6", Fn(lambda m, x: _windows(x)), Fn(lambda m, x: x.view(1, 3, 10, 2, 20) + 1), IMAGE),
    "dtype": ("int64", Fn(lambda m, x: x.argmax(1)), Fn(lambda m, x: x.amax(1)), IMAGE),
    "bool": ("bool", Fn(lambda m, x: torch.where(x > 0, x, 2 * x)), nn.LeakyReLU(2.0), IMAGE),
    "last axis": ("last axis has size 1", nn.Conv2d(3, 4, (3, 20)), nn.Conv2d(3, 4, (20, 3)), IMAGE),
    "stride": ("stride of 5", nn.Conv2d(3, 4, 5, 5), nn.Conv2d(3, 4, 6, 6), IMAGE),
    "pool stride": ("stride of 3", nn.MaxPool2d(3), nn.MaxPool2d(4), IMAGE),
    "kernel": ("15 x 15", nn.Conv2d(3, 4, 15), nn.Conv2d(3, 4, 13), IMAGE),
    "pool kernel": ("16 x 16", nn.AvgPool2d(16), nn.AvgPool2d(8), IMAGE),
    "reshape": ("changes the last axis", Fn(lambda m, x: x.view(1, 3, 10, 40)), Fn(lambda m, x: x.view(1, 3, 4, 5, 20)), IMAGE),
    "permute": ("changes the last axis", Fn(lambda m, x: x.transpose(1, 2) * 2), Fn(lambda m, x: x.transpose(0, 1) * 2), TOKENS),
    "softmax": ("softmax over axis 2", nn.Softmax(2), nn.Softmax(1), TOKENS),
    "linear": ("a linear layer", nn.Linear(8, 4), nn.Conv1d(6, 4, 1), TOKENS),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_lint(name: str) -> None:
    words, bad, good, x = CASES[name]
    found = [v for v in check(optimized(bad, x), IPHONE_FP16) if words in v.rule]
    assert len(found) >= 1
    assert all(v.fix and v.layer and not v.fatal for v in found)
    assert not [v for v in check(optimized(good, x), IPHONE_FP16) if words in v.rule]
    assert check(optimized(bad, x), IPHONE_FP32) == []


def test_attention_and_its_remedy() -> None:
    found = {v.layer: v for v in fxc.lint(Vit(), "iphone-fp16", example_inputs=IMAGE[..., :16, :16])}
    attention = next(v for name, v in found.items() if "scaled_dot" in name)
    assert "--ane" in attention.fix
    assert attention.source is not None
    assert "--ane" in found["block.mlp.0"].fix
    after = fxc.lint(Vit(), "iphone-fp16", example_inputs=IMAGE[..., :16, :16], ane=True)
    assert not [v for v in after if "linear" in v.rule or "attention" in v.rule or "--ane" in v.fix]
    assert len(after) < len(found)
    by_hand = fxc.lint(Vit(), "iphone-int8", example_inputs=IMAGE[..., :16, :16])
    assert not [v for v in by_hand if v.layer == "block.mlp.0" and "--ane" in v.fix]


def test_a_batch_that_is_not_fixed() -> None:
    program = optimized(nn.Conv2d(3, 4, 3), IMAGE)
    ranged = replace(IPHONE_FP16, options={**IPHONE_FP16.options, "batches": "1..8"})
    (found,) = check(program, ranged)
    assert (found.layer, found.fatal) == ("input", False)
    assert "fixed shapes" in found.rule
    assert check(program, IPHONE_FP16) == []


CONVOLUTIONS = {
    "odd stride": nn.Conv2d(3, 4, 5, 5),
    "kernel above the stride": nn.Conv2d(3, 4, 8, 5, 2),
    "kernel below the stride": nn.Conv2d(3, 4, 3, 7, 1),
    "grouped": nn.Conv2d(4, 8, 7, 5, 3, groups=2),
    "depthwise, no bias": nn.Conv2d(4, 4, (5, 2), 5, groups=4, bias=False),
    "patches": nn.Conv2d(3, 4, 16, 16),
    "large": nn.Conv2d(3, 4, 15, 1, 7),
    "large and flat": nn.Conv2d(4, 4, (1, 31), 1, (0, 15), groups=4),
    "very large": nn.Conv2d(3, 2, 29, 1, 14, bias=False),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("size", [33, 37])
def test_convolutions(name: str, size: int) -> None:
    layer = CONVOLUTIONS[name]
    torch.manual_seed(0)
    x = torch.randn(2, layer.in_channels, size, size + 3)
    after = run(EngineWindows(), optimized(nn.Sequential(layer), x))
    with torch.no_grad():
        want = layer(x)
    (found,) = after.run_flat(x)
    assert float((found - want).norm() / want.norm()) < 1e-6
    rules = [v.rule for v in check(after, IPHONE_FP16) if "stride" in v.rule or "kernel" in v.rule]
    assert rules == []


@pytest.mark.parametrize("kernel", [14, (15, 3), 40])
def test_max_pools(kernel: Any) -> None:
    pool, x = nn.MaxPool2d(kernel, 4, padding=1), torch.randn(2, 3, 45, 45)
    after = run(EngineWindows(), optimized(pool, x))
    assert torch.equal(after.run_flat(x)[0], pool(x))
    assert set(operators(after)) == {"max_pool2d"}


@pytest.mark.parametrize(
    ("layer", "step", "reason"),
    [
        (nn.Conv2d(3, 4, 5, (5, 2)), EngineWindows(), "strides are 5 and 2"),
        (nn.Conv2d(3, 4, 3, 5, dilation=2), EngineWindows(), "dilated"),
        (nn.MaxPool2d(15, 4, padding=7), EngineWindows(), "padding"),
        (nn.MaxPool2d(15, 4, ceil_mode=True), EngineWindows(), "rounds its size up"),
        (nn.Conv2d(3, 4, 15), EngineWindows(split=False), None),
        (nn.Conv2d(3, 4, 7, 6), EngineWindows(), None),
    ],
)
def test_what_is_left_alone(layer: nn.Module, step: EngineWindows, reason: str | None) -> None:
    program = optimized(layer, IMAGE)
    result = step.apply(program)
    assert not result.modified
    assert [reason in n.text for n in result.notes] == [True] * (reason is not None)


def test_by_the_flag() -> None:
    layer = nn.Conv2d(3, 4, 5, 5).eval()
    made = fxc.compile(layer, "iphone-fp16", example_inputs=IMAGE, ane=True)
    assert any(kind == "pixel_unshuffle" for kind, _ in made.runner().plan.operators)  # type: ignore[attr-defined]
    with torch.no_grad():
        torch.testing.assert_close(made(IMAGE), layer(IMAGE), rtol=1e-2, atol=1e-3)
    eight = fxc.compile(layer, "iphone-int8", example_inputs=IMAGE, calibration_data=[IMAGE], ane=True)
    assert eight.report["kernels"]["mac_coverage"] == 1
    assert IPHONE_INT8.options.get("ane") is None
