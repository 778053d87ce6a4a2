"""Scores, selection and budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fxc
from fxc.catalogue import PASSES
from fxc.compiler.errors import UsageError
from fxc.compiler.macs import macs
from fxc.compiler.passtext import parse_pipeline
from fxc.compiler.pipeline import run_pipeline
from fxc.passes.prune.gradients import gradients_of
from fxc.passes.prune.groups import Structure, structure_of
from fxc.passes.prune.importance import CRITERIA, Importance
from fxc.passes.prune.prune_channels import PruneChannels
from tests.passes.prune.cases import canonical_program
from tests.passes.prune.nets import build, conv


@pytest.fixture(scope="module")
def chain() -> Structure:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 32), conv(32, 64), conv(64, 24), nn.Conv2d(24, 2, 1))
    return structure_of(canonical_program(model, torch.randn(1, 3, 8, 8)))


def widths(structure: Structure, **options: Any) -> dict[str, int]:
    return {g.name: g.channels[1] for g in PruneChannels(**options).plan(structure).groups}


def test_ratio_is_of_every_group(chain: Structure) -> None:
    assert widths(chain, ratio=0.5) == {"0.0": 16, "1.0": 32, "2.0": 12}
    assert widths(chain, ratio=0.0) == {"0.0": 32, "1.0": 64, "2.0": 24}
    assert widths(chain, ratio=0.999) == {"0.0": 1, "1.0": 1, "2.0": 1}


def test_align(chain: Structure) -> None:
    assert widths(chain, ratio=0.4, align=8) == {"0.0": 24, "1.0": 40, "2.0": 16}
    assert widths(chain, ratio=0.4, align=32) == {"0.0": 16, "1.0": 32, "2.0": 16}
    assert widths(chain, ratio=0.999, align=16) == {"0.0": 16, "1.0": 16, "2.0": 16}


def test_layers_and_protection(chain: Structure) -> None:
    assert widths(chain, layers=(("*", 0.25), ("1.*", 0.75))) == {"0.0": 24, "1.0": 16, "2.0": 18}
    assert widths(chain, protect=("2.*",)) == {"0.0": 16, "1.0": 32, "2.0": 24}


@pytest.mark.parametrize("ranking", ["local", "global"])
@pytest.mark.parametrize(("what", "share"), [("macs", 0.5), ("macs", 0.1), ("params", 0.4)])
def test_budgets(chain: Structure, ranking: str, what: str, share: float) -> None:
    step = PruneChannels(ranking=ranking, **{what: share})
    after = run_pipeline(chain.program, (step,))
    measured = {
        "macs": [sum(map(macs, p.graph.nodes)) for p in (chain.program, after)],
        "params": [sum(t.numel() for t in p.module().parameters()) for p in (chain.program, after)],
    }
    before, left = measured[what]
    assert share - 0.06 < left / before <= share


def test_global_ranking_takes_from_where_scores_are_low(chain: Structure) -> None:
    found = widths(chain, ranking="global", ratio=0.5)
    assert abs(sum(found.values()) - 60) <= 1
    assert found != widths(chain, ratio=0.5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ratio": 1.0}, "ratio must lie in"),
        ({"ratio": -0.1}, "ratio must lie in"),
        ({"ratio": float("nan")}, "ratio must lie in"),
        ({"ratio": True}, "ratio must lie in"),
        ({"macs": 0.0}, "macs must lie in"),
        ({"macs": 1e-6}, "cannot be reached: the least is 0.0"),
        ({"ranking": "best"}, "unknown ranking"),
        ({"align": 0}, "align must be"),
        ({"criterion": "size"}, "unknown criterion"),
        ({"criterion": "taylor"}, "needs data and a loss"),
        ({"protect": ("*",)}, "protected"),
        ({"protect": ("nothing",)}, "matches 'nothing'"),
        ({"layers": (("0.0", 1.5),)}, "must lie in"),
    ],
)
def test_what_cannot_be_is_said(chain: Structure, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        PruneChannels(**options).plan(chain)


def test_criteria_against_formulas(chain: Structure) -> None:
    program = chain.program
    weight, reader = program.tensor("1.0.weight").detach(), program.tensor("2.0.weight").detach()

    def scaled(x: torch.Tensor) -> np.ndarray[Any, Any]:
        return (x / x.mean()).double().numpy()

    l1 = (scaled(weight.abs().sum((1, 2, 3))) + scaled(reader.abs().sum((0, 2, 3)))) / 2
    l2 = (scaled(weight.flatten(1).norm(dim=1)) + scaled(reader.transpose(0, 1).flatten(1).norm(dim=1))) / 2
    rows = weight.flatten(1)
    fpgm = scaled(torch.stack([(row - rows).norm(dim=1).sum() for row in rows]))
    bn = scaled(program.tensor("1.1.weight").detach().abs())
    for name, want in {"l1": l1, "l2": l2, "fpgm": fpgm, "bn": bn}.items():
        np.testing.assert_allclose(Importance(chain, name).scores()["1.0"], want, rtol=1e-4)


def test_taylor_against_autograd(chain: Structure) -> None:
    data = [torch.randn(2, 3, 8, 8) for _ in range(2)]
    gradients = gradients_of(chain.program, data, lambda module, x: module(x).square().mean())
    module = chain.program.module()
    sum(module(x).square().mean() for x in data).backward()  # type: ignore[union-attr]
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)
        parameter.grad = None
    scores = Importance(chain, "taylor", gradients=gradients).scores()
    assert scores["0.0"].shape == (32,)
    assert scores["0.0"].std() > 0


def test_units_of_several_channels_are_scored_together() -> None:
    model, x = build("simple_gate")
    structure = structure_of(canonical_program(model, x))
    found = Importance(structure, "bn").scores()["a.0"]
    scale = structure.program.tensor("a.1.weight").detach().abs()
    want = scale[:8] + scale[8:]
    np.testing.assert_allclose(found, (want / want.mean()).numpy(), rtol=1e-5)


@pytest.mark.parametrize("criterion", sorted({*CRITERIA} - {"taylor"}))
def test_the_best_units_stay(chain: Structure, criterion: str) -> None:
    plan = PruneChannels(criterion=criterion).plan(chain)
    for group in plan.groups:
        kept = [group.scores[i] for i in group.kept]
        gone = [s for i, s in enumerate(group.scores) if i not in group.kept]
        assert min(kept) >= max(gone)


def test_random_is_seeded(chain: Structure) -> None:
    def plan(seed: int) -> Any:
        return PruneChannels(criterion="random", seed=seed).plan(chain)

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_the_pass_reads_back() -> None:
    step = PruneChannels(
        0.3,
        macs=0.5,
        align=8,
        layers=(("layer1.*", 0.25),),
        protect=("head", "a b"),
        heads=True,
        criterion="bn",
    )
    assert parse_pipeline(step.text(), PASSES) == (step,)
    assert PruneChannels(ratio=0.25, align=8).text() == "prune_channels{ratio=0.25,align=8}"


def test_ratio_zero_is_identity(chain: Structure) -> None:
    result = PruneChannels(ratio=0.0).apply(chain.program)
    assert not result.modified
    assert result.program is chain.program


def test_nothing_is_removed_from_the_input(chain: Structure) -> None:
    before = {k: v.clone() for k, v in chain.program.module().state_dict().items()}
    PruneChannels().apply(chain.program)
    for name, value in chain.program.module().state_dict().items():
        assert torch.equal(value, before[name])


def test_channels_that_are_no_numbers_cannot_be_ranked() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 3)).eval()
    with torch.no_grad():
        net[0].weight[3] = float("nan")
    with pytest.raises(UsageError, match="channels of 0 cannot be ranked"):
        fxc.prune(net, 0.5, example_inputs=(torch.randn(1, 3, 8, 8),))
