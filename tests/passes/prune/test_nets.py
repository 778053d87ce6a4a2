"""Pruned equals masked, for nets through which channels are hard to follow; and every group that could shrink does."""

import pytest
import torch
from torch import Tensor, nn

from fxc.passes.prune.groups import structure_of
from tests.models.metrics import rel_l2
from tests.passes.prune.cases import assert_equals_masked, canonical_program
from tests.passes.prune.nets import NETS, build

WITH_HEADS = ("attention_fused", "attention_apart", "attention_einsum", "cross_attention")

LEFT = {
    "padded_shortcut": ["b.0: pad is padding"],
    "token_mixing": ["t2: add meets a dimension that cannot shrink"],
    "channel_shuffle_module": ["a.0: is one unit, and a layer keeps at least one"],
}
"""What keeps its width besides the layers that make the output."""

GROUPS = {
    "pixel_shuffle": {"a.0": (8, 4)},
    "pixel_shuffle_by_hand": {"a.0": (8, 4)},
    "pixel_unshuffle": {"a.0": (8, 1)},
    "chunk_concat": {"a.0": (8, 1), "a.0#2": (8, 1), "b.0.0": (6, 1), "c.0": (8, 1)},
    "simple_gate": {"a.0": (8, 2)},
    "channel_shuffle": {"a.0": (4, 1), "a.0#2": (4, 1), "c.0": (6, 1)},
    "conv_transpose_groups": {"a.0": (4, 3), "b.0": (6, 3)},
    "groups": {"a.0": (4, 4), "b.0": (6, 4)},
    "group_norm": {"a.0": (4, 4), "a.3": (8, 1)},
    "attention_fused": {"a.0": (24, 1), "qkv": (6, 12)},
    "attention_apart": {"a.0": (24, 1), "q": (6, 4), "v": (6, 4)},
}
"""Some groups by hand: units, and channels of the layer in each."""


@pytest.mark.parametrize("name", NETS)
def test_pruned_equals_masked(name: str) -> None:
    model, x = build(name, torch.float64)
    structure, pruned = assert_equals_masked(model, x)
    left = [f"{g.name}: {'; '.join(g.fixed)}" for g in structure.groups if g.fixed]
    assert [text for text in left if "model's output" not in text] == LEFT.get(name, [])
    if structure.prunable:
        with torch.no_grad():
            assert rel_l2(pruned(x), model(x)) > 1e-2, "nothing went, so that equality proves nothing"


@pytest.mark.parametrize("name", ["chunk_concat", "attention_apart", "group_norm"])
def test_pruned_equals_masked_in_single_precision(name: str) -> None:
    assert_equals_masked(*build(name, torch.float32))


@pytest.mark.parametrize("name", WITH_HEADS)
def test_whole_heads(name: str) -> None:
    model, x = build(name, torch.float64)
    structure, _ = assert_equals_masked(model, x, heads=True)
    wide = {g.name: len(g) for g in structure_of(structure.program).prunable}
    assert any(len(g) == 4 and wide.get(g.name) == 6 for g in structure.prunable)


@pytest.mark.parametrize("name", GROUPS)
def test_groups_by_hand(name: str) -> None:
    model, x = build(name)
    found = structure_of(canonical_program(model, x)).prunable
    assert {group.name: (len(group), group.width) for group in found} == GROUPS[name]


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["chunk_concat", "attention_fused", "channel_shuffle", "groups", "unet"])
def test_other_shares_and_other_units(name: str, share: float) -> None:
    model, x = build(name, torch.float64)
    assert_equals_masked(model, x, share=share, seed=round(10 * share))


@pytest.mark.parametrize("name", ["group_norm", "rms_norm", "windows", "token_mixing"])
def test_changed_statistics_are_told(name: str) -> None:
    model, x = build(name)
    assert any(group.changes_statistics for group in structure_of(canonical_program(model, x)).prunable)


def test_tied_weights_stay_tied() -> None:
    model, x = build("shared_weights")
    _, pruned = assert_equals_masked(model, x)
    reads = [n for n in pruned.graph.nodes if n.op == "get_attr" and n.target in ("c.weight", "c2.weight")]
    assert sum(len(node.users) for node in reads) == 2
    assert len({id(pruned.tensor(n.target)) for n in reads}) == 1
    assert pruned.tensor("c.weight").shape == (4, 4, 1, 1)


class BiasedHeads(nn.Module):
    """Attention whose scores get a bias for each head out of a small net, as in Swin v2."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 5)
        self.positions = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3, bias=False))
        self.register_buffer("table", torch.randn(7, 7, 2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.embed(x)).reshape(-1, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) + self.positions(self.table).permute(2, 0, 1).sigmoid()
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 7, 12))


def test_a_bias_of_heads_goes_with_the_heads() -> None:
    torch.manual_seed(0)
    model, x = BiasedHeads().double(), torch.randn(2, 7, 6, dtype=torch.float64)
    whole, _ = assert_equals_masked(model, x)
    assert "positions.2" in {group.name for group in whole.groups if group.fixed}
    structure, _ = assert_equals_masked(model, x, heads=True)
    (group,) = (g for g in structure.prunable if "positions.2" in g.layers)
    assert (len(group), group.layers) == (3, ("qkv", "positions.2"))
    assert {g.name for g in structure.groups if g.fixed} == {"out"}
