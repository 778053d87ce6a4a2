"""Linear layers as convolutions: the same numbers, fewer permutations, and what is read back in the model's own arrangement."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.backends.coreml.channels_first import ChannelsFirst, rearranged
from fxc.backends.coreml.emit import emit
from fxc.backends.coreml.run import load
from fxc.backends.coreml.target import IPHONE_FP32
from fxc.compiler.program import Program
from tests.backends.coreml.engine_nets import Block, Next, Packed, Twice, Vit, flattened, optimized, pooled
from tests.models.metrics import sqnr_db
from tests.passes.checks import Fn, operators, run

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
CASES = {
    "vit": (Vit, IMAGE),
    "block": (Block, torch.randn(2, 7, 16)),
    "next": (Next, torch.randn(2, 8, 6, 6)),
    "packed": (Packed, torch.randn(2, 5, 12)),
    "pooled": (pooled, IMAGE),
    "flattened": (flattened, IMAGE),
}


def turned(name: str, *, batch: int = 2) -> tuple[Program, Program]:
    torch.manual_seed(0)
    make, x = CASES[name]
    program = optimized(make(), x[:batch])
    return program, run(ChannelsFirst(), program)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_same_numbers(name: str, batch: int) -> None:
    program, after = turned(name, batch=batch)
    kinds = operators(after)
    assert not {"linear", "scaled_dot_product_attention"} & set(kinds)
    x = CASES[name][1][:batch]
    for a, b in zip(program.run_flat(x), after.run_flat(x), strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-6


def test_what_is_read_in_both_arrangements() -> None:
    x = torch.randn(2, 5, 6)
    program = optimized(Twice(), x)
    after = rearranged(program, tokens=True).finish()
    assert "linear" not in operators(after)
    for a, b in zip(program.run_flat(x), after.run_flat(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "before", "after"), [("vit", 7, 4), ("next", 2, 0), ("pooled", 0, 0)])
def test_permutations_go(name: str, before: int, after: int) -> None:
    counts = [Counter(operators(p))["permute"] for p in turned(name)]
    assert counts == [before, after]


def test_softmax_runs_over_the_second_axis() -> None:
    _, after = turned("vit")
    (softmax,) = [n for n in after.graph.nodes if n.target is torch.ops.aten.softmax.int]
    assert softmax.args[1] == 1


def test_a_flattened_image_is_the_kernel() -> None:
    _, after = turned("flattened")
    kernels = [
        n.args[1].meta["val"].shape for n in after.graph.nodes if n.target is torch.ops.aten.conv2d.default
    ]
    assert kernels[-1] == (6, 4, 7, 7)


class Shifted(nn.Module):
    """Attention within two windows after a roll, as Swin's: every block reads the tokens in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.roll(layer(torch.roll(x, 1, 1)), 1, 1)
        return x


def test_where_it_costs_permutations_tokens_stay() -> None:
    run(ChannelsFirst(), optimized(Shifted(), torch.randn(2, 5, 4)), changes=False)


def test_what_is_left_alone() -> None:
    x = torch.randn(2, 5, 4)
    run(ChannelsFirst(tokens=False), optimized(nn.Linear(4, 3), x), changes=False)
    run(ChannelsFirst(tokens=False), optimized(Next(), torch.randn(2, 8, 6, 6)), changes=False)
    shorter = Fn(lambda m, x: m.layer(x[1:]).relu(), layer=nn.Linear(4, 3))
    run(ChannelsFirst(), optimized(shorter, torch.randn(4, 5, 4)), changes=None)
    computed = Fn(lambda m, x: torch.nn.functional.linear(x, x[0]))
    run(ChannelsFirst(), optimized(computed, x), changes=False)
    masked = Fn(lambda m, x: torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True))
    run(ChannelsFirst(), optimized(masked, x[:, None]), changes=False)


@pytest.mark.parametrize("name", ["vit", "next"])
def test_the_file_says_the_same(name: str, tmp_path: Path) -> None:
    program, after = turned(name, batch=1)
    emitted = emit(after, IPHONE_FP32, tmp_path)
    runner = load(tmp_path / emitted.model)
    x = CASES[name][1][:1]
    assert sqnr_db(program.run_flat(x)[0], torch.from_numpy(runner([x.numpy()])[0])) > 105
    kinds = {kind for kind, _ in runner.plan.operators}
    # The converter makes the layer norm over channels whole again.
    assert "linear" not in kinds
    assert "layer_norm" in kinds


def test_on_request_alone() -> None:
    torch.manual_seed(0)
    net = pooled().eval()
    plain = fxc.compile(net, "iphone-fp16", example_inputs=IMAGE[:1])
    asked = fxc.compile(net, "iphone-fp16", example_inputs=IMAGE[:1], ane=True)
    kinds = [Counter(kind for kind, _ in load(a.model).plan.operators) for a in (plain, asked)]
    assert [k["linear"] for k in kinds] == [2, 0]
    assert [k["conv"] for k in kinds] == [1, 3]
    assert sqnr_db(net(IMAGE).detach(), asked(IMAGE)) > 55
    assert asked.manifest["target"]["made_for"] == "the Neural Engine"
    assert "4" in asked.manifest["tensors"]  # the layers keep their names


def test_in_eight_bits_heads_stay_in_eight_bits() -> None:
    torch.manual_seed(0)
    made = fxc.compile(
        pooled().eval(), "iphone-int8", example_inputs=IMAGE[:1], calibration_data=[IMAGE], ane=True
    )
    assert made.report["kernels"]["mac_coverage"] == 1
    assert {kind for kind, _ in load(made.model).plan.operators} >= {"conv", "quantize"}


def test_only_where_there_is_a_neural_engine() -> None:
    with pytest.raises(fxc.FxcError, match="says nothing about"):
        fxc.lint(pooled(), "iphone-fp32", example_inputs=IMAGE[:1], ane=True)
    with pytest.raises(fxc.FxcError, match="true or false"):
        fxc.lint(pooled(), "iphone-fp16", example_inputs=IMAGE[:1], ane="yes")  # type: ignore[arg-type]
