"""Packed convolutions against PyTorch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxc.compiler import prepack
from fxc.compiler.capture import capture
from fxc.compiler.execute import fast_order, steps
from fxc.compiler.prepack import prepacked
from fxc.compiler.program import Program

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "pointwise": {"kernel_size": 1},
    "strided and padded": {"kernel_size": 5, "stride": (2, 1), "padding": (4, 1)},
    "dilated": {"kernel_size": 3, "dilation": (1, 2)},
    "grouped": {"kernel_size": 3, "groups": 4},
    "depthwise": {"kernel_size": 3, "groups": 8, "out_channels": 16},
    "without bias": {"kernel_size": 3, "bias": False},
    "of one column": {"kernel_size": (7, 1), "padding": (3, 0)},
}


def captured(model: nn.Module, batch: int = 4) -> Program:
    return capture(model.eval(), (images(batch),))


def images(batch: int) -> Tensor:
    return torch.randn(batch, 8, 12, 10, generator=torch.Generator().manual_seed(batch))


def last(program: Program, x: Tensor, **words: Any) -> Tensor:
    *_, (_, outputs) = steps(program, fast_order(program, (x,)), **words)
    return outputs[0]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers(form: str) -> None:
    torch.manual_seed(0)
    options = {"in_channels": 8, "out_channels": 16, **FORMS[form]}
    program = captured(nn.Sequential(nn.Conv2d(**options), nn.ReLU(), nn.Conv2d(16, 4, 1)))
    calls = prepacked(program, 4)
    assert len(calls) == 2, "this build of PyTorch packs"
    for batch in (4, 3, 1):
        x = images(batch)
        torch.testing.assert_close(last(program, x, calls=calls), last(program, x), rtol=1e-5, atol=1e-5)


def test_what_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    double = capture(nn.Conv2d(8, 4, 3).double(), (images(2).double(),))
    alone = capture(nn.Conv2d(8, 4, 3), (images(1)[0],), dynamic_batch=False)
    assert prepacked(double, 2) == prepacked(alone, 1) == {}
    large = captured(nn.Conv2d(8, 4, 3))
    assert prepacked(large, 4)
    monkeypatch.setattr(prepack, "_LIMIT", 8 * 4 * 9 * 4 - 1)
    assert prepacked(large, 4) == {}


def test_later_weights_are_not_seen() -> None:
    """Calls are for a while in which nobody trains; a packed weight is a copy."""
    program = captured(nn.Conv2d(8, 4, 3))
    calls, x = prepacked(program, 4), images(4)
    before = last(program, x)
    with torch.no_grad():
        next(iter(program.graph_module.parameters())).mul_(2.0)
    torch.testing.assert_close(last(program, x, calls=calls), before, rtol=1e-5, atol=1e-5)
