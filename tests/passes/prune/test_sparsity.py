"""Single weights at zero, orders of channels for n:m, and layers split by singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fxc.compiler.errors import UsageError
from fxc.compiler.macs import macs
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.prune.low_rank import LowRank
from fxc.passes.prune.permute import kept_magnitude, order_for, permuted_for
from fxc.passes.prune.sparsity import Pattern, illegal, sparsified
from tests.models.metrics import rel_l2
from tests.passes.prune.cases import canonical_program
from tests.passes.prune.nets import build, conv


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(
        conv(3, 16), conv(16, 32), conv(32, 32, groups=4), nn.Conv2d(32, 8, 1), nn.Flatten()
    )
    return canonical_program(model, torch.randn(2, 3, 8, 8))


def test_two_of_four_against_a_loop(program: Program) -> None:
    sparse = sparsified(program, Pattern.parse("2:4"))
    assert sorted(sparse.masks) == ["1.0.weight", "3.weight"]
    assert sparse.left == {
        "0.0": "3 input channels are no multiple of 4",
        "2.0": "a grouped convolution has no sparse kernel",
    }
    weight, mask = program.tensor("1.0.weight").detach(), sparse.masks["1.0.weight"]
    for o in range(32):
        for part in range(4):
            for y in range(3):
                for x in range(3):
                    four = weight[o, 4 * part : 4 * part + 4, y, x].abs()
                    stays = mask[o, 4 * part : 4 * part + 4, y, x]
                    assert set(stays.nonzero().flatten().tolist()) == set(four.argsort()[2:].tolist())
    finished = sparse.finish()
    assert set(illegal(finished)) == {"0.0", "2.0"}
    assert set(illegal(program)) == {"0.0", "1.0", "2.0", "3"}


@pytest.mark.parametrize(("block", "ratio"), [((1, 1), 0.7), ((4, 1), 0.5), ((1, 4), 0.75)])
def test_unstructured_and_blocks(block: tuple[int, int], ratio: float, program: Program) -> None:
    sparse = sparsified(program, Pattern(ratio=ratio, block=block), protect=["0.0"])
    assert sparse.left["0.0"] == "protected"
    for name, mask in sparse.masks.items():
        assert abs(float(mask.double().mean()) - (1 - ratio)) < 0.02
        tiles = mask.unflatten(1, (-1, block[1])).unflatten(0, (-1, block[0])).double().mean((1, 3))
        assert set(tiles.unique().tolist()) <= {0.0, 1.0}
        kept = program.tensor(name).detach().abs()
        assert kept[mask].mean() > kept[~mask].mean()


@pytest.mark.parametrize(
    "pattern", [Pattern.parse("2:4"), Pattern.parse(0.8), Pattern(0.6, criterion="random")]
)
def test_no_optimizer_revives_a_weight(pattern: Pattern, program: Program) -> None:
    sparse, x = sparsified(program, pattern), program.example_inputs[0]
    before = sparse.density()
    start = sparse.program(x)
    module = sparse.module()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    assert rel_l2(sparse.program(x), start) > 1e-3
    assert sparse.density() == before
    finished = sparse.finish()
    assert rel_l2(finished(x), sparse.program(x)) < 1e-6
    for name, mask in sparse.masks.items():
        assert not finished.tensor(name).detach()[~mask].any()
    assert len(finished.graph.nodes) == len(program.graph.nodes)


@pytest.mark.parametrize("name", ["unet", "chunk_concat", "attention_apart", "shared_weights", "layer_scale"])
def test_another_order_of_channels_changes_nothing(name: str) -> None:
    model, x = build(name, torch.float64)
    program = canonical_program(model, x)
    moved = permuted_for(program, seed=3)
    assert rel_l2(moved(x), program(x)) < 1e-10
    changed = [
        n.target
        for n in program.graph.nodes
        if n.op == "get_attr" and not torch.equal(program.tensor(n.target), moved.tensor(n.target))
    ]
    assert changed, "nothing moved, so that equality proves nothing"


def test_the_order_keeps_more() -> None:
    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=(64, 32))) * np.repeat([10.0, 1.0], 16)
    order = order_for(weights, 2, 4, 4, rng)
    assert sorted(order) == list(range(32))
    assert kept_magnitude(weights[:, order], 2, 4) > 1.15 * kept_magnitude(weights, 2, 4)
    model, x = build("unet")
    program = canonical_program(model, x)
    kept = [_kept(p) for p in (program, permuted_for(program))]
    assert kept[1] > kept[0]


def _kept(program: Program) -> float:
    sparse = sparsified(program, Pattern.parse("2:4"))
    return sum(float(program.tensor(name).detach().abs()[mask].sum()) for name, mask in sparse.masks.items())


def test_low_rank() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64 * 16, 40)
    )
    with torch.no_grad():
        model[2].weight.copy_((torch.randn(64, 4) @ torch.randn(4, 64 * 9)).reshape(64, 64, 3, 3))
    x = torch.randn(2, 3, 8, 8)
    program = canonical_program(model, x)
    split = run_pipeline(program, (LowRank(energy=0.999999),))
    assert rel_l2(split(x), program(x)) < 1e-3
    assert sum(map(macs, split.graph.nodes)) < 0.5 * sum(map(macs, program.graph.nodes))
    shapes = [
        tuple(n.args[1].meta["val"].shape)
        for n in split.graph.nodes
        if n.target is torch.ops.aten.conv2d.default
    ]
    assert shapes == [(64, 3, 3, 3), (4, 64, 3, 3), (64, 4, 1, 1)]
    assert any("rank 4 of 64" in note.text for note in split.notes)
    assert not LowRank(energy=1.0, protect=("2",)).apply(program).modified
    assert all(parameter.requires_grad for parameter in split.module().parameters())


def test_a_lower_energy_costs_less_and_errs_more() -> None:
    model, x = build("attention_apart")
    program = canonical_program(model, x)
    found = [run_pipeline(program, (LowRank(energy=e, saves=0.01),)) for e in (0.95, 0.5)]
    costs = [sum(map(macs, p.graph.nodes)) for p in found]
    errors = [rel_l2(p(x), program(x)) for p in found]
    assert costs[1] < costs[0]
    assert errors[1] > errors[0]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Pattern.parse("4:2"), "no pattern"),
        (lambda: Pattern.parse("half"), "no pattern"),
        (lambda: Pattern.parse(1.0), "ratio must lie"),
        (lambda: Pattern(block=(0, 1)), "block takes"),
        (lambda: Pattern(criterion="best"), "unknown criterion"),
        (lambda: LowRank(energy=0.0), "energy must lie"),
        (lambda: LowRank(saves=1.0), "saves must lie"),
    ],
)
def test_what_cannot_be_is_said(make: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()  # type: ignore[operator]
