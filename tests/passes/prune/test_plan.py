"""Plans: written down, replayed, joined, worn as masks and taken off again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import fxc
from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.program import Program
from fxc.compiler.text import structural_hash
from fxc.passes.prune.apply_plan import ApplyPlan, apply_plan
from fxc.passes.prune.channel_masks import mask
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.masks import without_masks
from fxc.passes.prune.plan import Plan
from fxc.passes.prune.prune_channels import PruneChannels
from tests.models.metrics import rel_l2
from tests.passes.prune.cases import canonical_program
from tests.passes.prune.nets import build

NAMES = ("chunk_concat", "attention_fused", "unet")


def planned(program: Program, ratio: float = 0.5, seed: int = 0, **options: object) -> Plan:
    step = PruneChannels(ratio=ratio, criterion="random", seed=seed, **options)  # type: ignore[arg-type]
    return step.plan(structure_of(program, heads=step.heads))


@pytest.fixture(scope="module", params=NAMES)
def program(request: pytest.FixtureRequest) -> Program:
    model, x = build(request.param)
    return canonical_program(model, x)


def test_a_saved_plan_gives_the_identical_model(program: Program, tmp_path: Path) -> None:
    plan = planned(program)
    again = Plan.load(plan.save(tmp_path / "plan.json"))
    assert again == plan
    one, two = apply_plan(program, plan), apply_plan(program, again)
    assert structural_hash(one) == structural_hash(two)
    assert ApplyPlan(plan=plan) == ApplyPlan(plan=again)


def test_twice_is_once_with_the_union(program: Program) -> None:
    first = planned(program, 0.4, 1)
    half = apply_plan(program, first)
    second = planned(half, 0.4, 2)
    once = apply_plan(program, first.then(second))
    assert structural_hash(apply_plan(half, second)) == structural_hash(once)


def test_masks_compute_what_the_pruned_model_does(program: Program) -> None:
    plan = planned(program)
    before = structural_hash(program)
    masked = mask(program, plan)
    x = program.example_inputs[0]
    pruned = apply_plan(program, plan)
    assert rel_l2(masked.program(x), pruned(x)) < 1e-5
    assert rel_l2(masked.program(x), program(x)) > 1e-2
    assert rel_l2(without_masks(masked.program)(x), pruned(x)) < 1e-5
    assert len(without_masks(masked.program).graph.nodes) == len(program.graph.nodes)
    train(masked.module(), x)
    assert structural_hash(masked.recover()) == before


def test_masked_weights_cannot_come_back(program: Program) -> None:
    masked, x = mask(program, planned(program)), program.example_inputs[0]
    start = masked.program(x)
    train(masked.module(), x)
    assert rel_l2(masked.program(x), start) > 1e-3, "nothing was trained"
    assert rel_l2(masked.program(x), masked.cut()(x)) < 1e-4


def train(module: nn.Module, x: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()


def test_a_plan_knows_its_program(program: Program) -> None:
    other = canonical_program(*build("simple_gate"))
    for use in (apply_plan, mask):
        with pytest.raises(UsageError, match="another program"):
            use(other, planned(program))
    pruned = apply_plan(program, planned(program))
    with pytest.raises(UsageError, match="another program"):
        apply_plan(pruned, planned(program))


def test_a_plan_fits_the_fine_tuned_model(program: Program) -> None:
    plan = planned(program)
    retrained = canonical_program(program.module(), *program.example_inputs)
    with torch.no_grad():
        for parameter in retrained.module().parameters():
            parameter.add_(0.01)
    plan.check(program)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.update(kind="x"), "not a pruning plan"),
        (lambda d: d.update(format=9), "format 9"),
        (lambda d: d["groups"][0].update(kept=[]), "units that it does not have"),
        (lambda d: d["groups"][0].update(kept=[0, 0]), "units that it does not have"),
        (lambda d: d["groups"][0].update(kept=[99]), "units that it does not have"),
        (lambda d: d.pop("groups"), "groups"),
        (lambda d: d["groups"][0].update(units=float("inf")), "OverflowError"),
        (lambda d: d.update(groups=3), "plan.json|int"),
    ],
)
def test_a_damaged_plan_is_refused(tmp_path: Path, change: object, text: str) -> None:
    path = planned(canonical_program(*build("simple_gate"))).save(tmp_path / "plan.json")
    document = json.loads(path.read_text())
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=text):
        Plan.load(path)


def test_a_pruned_model_from_disk(tmp_path: Path) -> None:
    model, x = build("chunk_concat")
    pruned = fxc.prune(model, 0.5, example_inputs=(x,))
    pruned.save(tmp_path / "small")
    loaded = fxc.Pruned.load(tmp_path / "small")
    torch.testing.assert_close(loaded.program(x), pruned.program(x), rtol=0, atol=0)
    assert loaded.plan == pruned.plan
    assert not [p for p in (tmp_path / "small").iterdir() if p.suffix in (".pt", ".pkl", ".pt2")]
    assert fxc.capture(tmp_path / "small").name == "Net"
    with pytest.raises(ArtifactError, match="no original"):
        loaded.masked()
    with pytest.raises(ArtifactError):
        pruned.save(tmp_path / "small")
    pruned.save(tmp_path / "small", force=True)
