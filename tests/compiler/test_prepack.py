"""Packed convolutions against PyTorch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fxc.compiler import prepack
from fxc.compiler.capture import capture
from fxc.compiler.execute import fast_order, steps
from fxc.compiler.origin import op_name
from fxc.compiler.prepack import Packed
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


def everything(program: Program) -> set[str]:
    return {node.name for node in program.graph.nodes}


class Residual(nn.Module):
    """Every way in which a convolution and what follows it can be one, and those in which they cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.scale = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x) + x)
        x = x + self.b(x)
        x = torch.relu(self.c(x) + self.d(x))
        x = F.hardtanh(self.a(x), 0.0, 6.0) + self.b(x)
        y = self.c(x)
        x = y + torch.relu(y)
        x = torch.add(x, self.d(x), alpha=2)
        x = self.a(x) + self.scale
        x = self.b(x) + self.c(x).mean((2, 3), keepdim=True)
        y = self.d(x)
        return F.hardtanh(y + y, -0.5, 0.25)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_numbers(form: str) -> None:
    torch.manual_seed(0)
    options = {"in_channels": 8, "out_channels": 16, **FORMS[form]}
    program = captured(nn.Sequential(nn.Conv2d(**options), nn.ReLU(), nn.Conv2d(16, 4, 1)))
    calls = Packed(program, 4).calls(everything(program))
    assert len(calls) == 2, "this build of PyTorch packs"
    for batch in (4, 3, 1):
        x = images(batch)
        torch.testing.assert_close(last(program, x, calls=calls), last(program, x), rtol=1e-5, atol=1e-5)


def test_what_follows_a_convolution_changes_no_number() -> None:
    torch.manual_seed(0)
    program, x = captured(Residual()), images(4)
    packed = Packed(program, 4)
    plain = dict(steps(program, fast_order(program, (x,)), packed.calls(everything(program))))
    calls = packed.calls(())
    fused = dict(steps(program, fast_order(program, (x,)), calls))
    with_values = [n for n, value in fused.items() if isinstance(value, Tensor)]
    convolutions = [n for n in program.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    assert len(convolutions) == 12
    assert len(calls) - len(convolutions) == 7, "four sums, two of them with a ReLU, and a clamp"
    last_node = next(reversed(program.graph.nodes))
    assert torch.equal(fused[last_node][0], plain[last_node][0])
    assert len(with_values) < len(plain)


@pytest.mark.parametrize("kept", ["conv2d", "add", "relu"])
def test_a_value_that_matters_is_there(kept: str) -> None:
    torch.manual_seed(0)
    program, x = captured(Residual()), images(4)
    seen = {n.name for n in program.graph.nodes if n.op == "call_function" and op_name(n) == kept}
    want = {n.name: v for n, v in steps(program, fast_order(program, (x,))) if n.name in seen}
    calls = Packed(program, 4).calls(seen)
    for node, value in steps(program, fast_order(program, (x,)), calls):
        if node.name in seen:
            torch.testing.assert_close(value, want[node.name], rtol=1e-5, atol=1e-5)


def test_what_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    double = capture(nn.Conv2d(8, 4, 3).double(), (images(2).double(),))
    alone = capture(nn.Conv2d(8, 4, 3), (images(1)[0],), dynamic_batch=False)
    assert Packed(double, 2).calls(()) == Packed(alone, 1).calls(()) == {}
    large = captured(nn.Conv2d(8, 4, 3))
    assert Packed(large, 4).calls(())
    monkeypatch.setattr(prepack, "_LIMIT", 8 * 4 * 9 * 4 - 1)
    assert Packed(large, 4).calls(()) == {}


def test_later_weights_are_not_seen() -> None:
    """Calls are for a while in which nobody trains; a packed weight is a copy."""
    program = captured(nn.Conv2d(8, 4, 3))
    calls, x = Packed(program, 4).calls(()), images(4)
    before = last(program, x)
    with torch.no_grad():
        next(iter(program.graph_module.parameters())).mul_(2.0)
    torch.testing.assert_close(last(program, x, calls=calls), before, rtol=1e-5, atol=1e-5)
