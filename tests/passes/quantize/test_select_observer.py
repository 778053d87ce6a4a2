"""``auto``: the observer that serves the readers; and each observer wins the case that theory says is its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxc.backends.openvino.target import SCHEME
from fxc.compiler.capture import capture
from fxc.compiler.config import QuantConfig
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.quant import I8
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.annotation import quantizers
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.observers import observe
from fxc.passes.quantize.qparams import qparams
from fxc.passes.quantize.select_observer import SelectObserver
from fxc.passes.quantize.statistics import TensorStats

FIXED = ("minmax", "moving_average", "percentile", "mse", "entropy")
Make = Callable[[torch.Generator], Tensor]


def scores(make: Make, reader: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """SQNR in dB behind ``reader`` on a fifth batch, for the range that each observer found on four."""
    generator = torch.Generator().manual_seed(0)
    stats = TensorStats()
    for _ in range(4):
        stats.update(make(generator), histogram=True)
    x, found = make(generator), {}
    for name in FIXED:
        spec = I8.but(observer=name)
        code = qparams(*observe(stats, spec), spec)
        got = reader(torch.fake_quantize_per_tensor_affine(x, code.scale, 0, spec.qmin, spec.qmax))
        noise = (got - reader(x)).square().sum() / reader(x).square().sum()
        found[name] = float(-10 * torch.log10(noise))
    return found


def with_glitches(share: float, size: float) -> Make:
    def make(generator: torch.Generator) -> Tensor:
        x = torch.randn(200_000, generator=generator)
        count = int(share * x.numel())
        where = torch.randperm(x.numel(), generator=generator)[:count]
        sign = torch.randn(count, generator=generator).sign()
        x[where] = size * (0.5 + torch.rand(count, generator=generator)) * sign
        return x

    return make


def wide_and_narrow(generator: torch.Generator) -> Tensor:
    x = torch.randn(200_000, generator=generator)
    return torch.where(torch.rand(200_000, generator=generator) < 0.003, 5 * x, x)


@pytest.mark.parametrize(
    ("winner", "make", "reader"),
    [
        # A reader that saturates has no use for glitches. Few enough of them lie beyond any percentile; a search that
        # weighs squares keeps the largest, and one that shrinks the extremes step by step starts from a thousand.
        ("percentile", with_glitches(2e-5, 1000.0), torch.tanh),
        # More glitches than the percentile cuts off, still few of the mass: the divergence hardly sees them.
        ("entropy", with_glitches(2e-3, 50.0), torch.tanh),
        # Squared error of the values themselves, heavy tails: rounding against clipping (Banner et al. 2019).
        ("mse", wide_and_narrow, lambda x: x),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_each_observer_wins_its_case(winner: str, make: Make, reader: Callable[[Tensor], Tensor]) -> None:
    found = scores(make, reader)
    others = {name: db for name, db in found.items() if name != winner}
    assert found[winner] > max(others.values()), found
    assert found[winner] > found["minmax"] + 3.0, found


class Reads(nn.Module):
    """A convolution over channels of which one has rare large values; its weight says how much they matter."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            self.conv.weight[:, 0] = weight

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def tailed() -> Tensor:
    x = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    x[:, 0] = x[:, 0] ** 3
    return x


def annotated(weight: float) -> Program:
    program = run_pipeline(capture(Reads(weight).eval(), (tailed()[:1],)), optimize())
    return run_pipeline(program, (Annotate(SCHEME, QuantConfig(observer="auto")),))


def chosen(weight: float) -> tuple[float, float]:
    """The range that ``auto`` gives to the convolution's input."""
    program, x = annotated(weight), tailed()
    statistics = calibrate(program, [x])
    after = run_pipeline(program, (SelectObserver((x,), statistics),))
    (quantizer,) = (q for q in quantizers(after.graph) if q.tensors == ["x"])
    assert quantizer.spec.observer != "auto"
    return observe(statistics.tensors["x"], quantizer.spec)


def test_values_that_no_weight_reads_get_no_codes() -> None:
    ignored, read = chosen(0.0), chosen(1.0)
    assert max(ignored) < 0.6 * max(read)


def test_the_annotated_program_is_not_changed_and_the_report_counts() -> None:
    program, x = annotated(1.0), tailed()
    result = SelectObserver((x,), calibrate(program, [x])).apply(program)
    assert all(q.spec.observer == "auto" for q in quantizers(program.graph))
    assert "observers chosen by the error at the readers" in result.notes[0].text


def test_fixed_observers_are_left_alone() -> None:
    program = run_pipeline(capture(Reads(1.0).eval(), (tailed()[:1],)), optimize())
    program = run_pipeline(program, (Annotate(SCHEME),))
    assert not SelectObserver((tailed(),)).apply(program).modified
