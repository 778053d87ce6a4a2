"""Bias correction: against the formula, against the measured mean, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxc.backends.openvino.target import SCHEME
from fxc.compiler.capture import capture
from fxc.compiler.errors import PassError
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.bias_correction import BiasCorrection
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.probe import probe
from fxc.proof import sqnr_db
from tests.passes.checks import run


def images(n: int = 8) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5


def prepared(model: nn.Module, x: Tensor) -> tuple[Program, Program, dict[str, Tensor]]:
    """The float program, the quantized one, and the channel means of what the float one's layers read."""
    program = run_pipeline(capture(model.eval(), (x[:1],)), optimize())
    annotated = run_pipeline(program, (Annotate(SCHEME),))
    statistics = calibrate(annotated, [x])
    return program, run_pipeline(annotated, (InsertQDQ(statistics=statistics),)), probe(program, (x,)).means


def dequantized(program: Program, node: torch.fx.Node) -> Tensor:
    codes, scale, zero = (program.tensor(str(a.target)) for a in node.args[:3])
    return DEQUANTIZE_CHANNEL(codes, scale, zero, node.args[3])


def layer(program: Program, name: str) -> torch.fx.Node:
    return next(n for n in program.graph.nodes if n.name == name)


def net(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, bias=bias), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=bias))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_analytic_is_the_weights_error_times_the_mean(groups: int) -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups))
    x = torch.rand(8, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    program, coded, means = prepared(model, x)
    corrected = run(BiasCorrection("analytic", reference=program, means=means), coded)
    before, after = layer(coded, "_0"), layer(corrected, "_0")
    error = dequantized(coded, before.args[1]) - model[0].weight.detach()
    mean = x.mean((0, 2, 3))
    constant = mean.reshape(1, 4, 1, 1).expand(1, 4, 3, 3)
    want = -torch.nn.functional.conv2d(constant, error, groups=groups).flatten()
    moved = dequantized(corrected, after.args[2]) - dequantized(coded, before.args[2])
    step = corrected.tensor(str(after.args[2].args[1].target))
    assert bool(((moved - want).abs() <= 0.51 * step + 1e-7).all())
    assert float(want.abs().max()) > 5 * float(step.max()), "the test must move more than a rounding"


@pytest.mark.parametrize("bias", [True, False])
def test_empirical_takes_the_mean_error_out(bias: bool) -> None:
    x = images()
    program, coded, _ = prepared(net(bias), x)
    corrected = run(BiasCorrection("empirical", reference=program, samples=(x,)), coded)

    def shift(quantized: Program) -> float:
        error = quantized.run_flat(x)[0] - program.run_flat(x)[0]
        return float(error.mean((0, 2, 3)).abs().max())

    assert shift(corrected) < 0.35 * shift(coded)


@pytest.mark.parametrize("method", ["analytic", "empirical"])
def test_unseen_inputs_gain(method: str) -> None:
    x, unseen = images(), images(24)[8:]
    program, coded, _ = prepared(net(), x)
    means = probe(program, (x,)).means
    corrected = BiasCorrection(method, reference=program, samples=(x,), means=means).apply(coded).program
    want = program.run_flat(unseen)[0]
    before, after = (sqnr_db(want, p.run_flat(unseen)[0]) for p in (coded, corrected))
    assert before is not None
    assert after is not None
    assert after > before


def test_a_shift_that_samples_disagree_about_is_not_taken() -> None:
    """Nothing but noise: images whose errors have no common mean keep the biases almost as they are."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 3, 1, 1, generator=generator)
    model = nn.Sequential(nn.Conv2d(3, 64, 1))
    program, coded, _ = prepared(model, x)
    corrected = BiasCorrection("empirical", reference=program, samples=(x,)).apply(coded).program
    error = (coded.run_flat(x)[0] - program.run_flat(x)[0]).mean((0, 2, 3))
    moved = (corrected.run_flat(x)[0] - coded.run_flat(x)[0]).mean((0, 2, 3))
    assert float(moved.norm()) < 0.8 * float(error.norm())


def test_it_says_what_it_did_and_what_it_lacks() -> None:
    program, coded, means = prepared(net(), images())
    (note,) = BiasCorrection("analytic", reference=program, means=means).apply(coded).notes
    assert note.text.startswith("2 biases corrected (analytic)")
    lacking = BiasCorrection("analytic", reference=program).apply(coded)
    assert not lacking.modified
    assert all("no channel means" in n.text for n in lacking.notes)


def test_what_it_refuses() -> None:
    program, coded, _ = prepared(net(), images())
    with pytest.raises(PassError, match="needs the float program"):
        BiasCorrection("analytic").apply(coded)
    with pytest.raises(PassError, match="needs samples"):
        BiasCorrection("empirical", reference=program).apply(coded)
    with pytest.raises(PassError, match="unknown bias correction"):
        BiasCorrection("magic", reference=program).apply(coded)
