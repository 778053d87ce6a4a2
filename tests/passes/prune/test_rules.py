"""Rules one by one: reshapes as factors, operators without a rule, and what a wrong rule is told."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fxc.compiler.errors import PassError
from fxc.passes.prune.atoms import Atoms
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.factors import segments
from fxc.passes.prune.flow import Rule
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.importance import Importance
from fxc.passes.prune.rules import RULES
from tests.models.metrics import rel_l2
from tests.passes.prune.cases import assert_equals_masked, canonical_program, random_keep
from tests.passes.prune.masked import masked_output
from tests.passes.prune.nets import Net, build, conv, weight_norm


@pytest.mark.parametrize(
    ("old", "new", "factors"),
    [
        ((7, 1009, 768), (7, 12108, 64), [(7,), (1009, 12, 64)]),
        ((2, 24), (2, 3, 8), [(2,), (3, 8)]),
        ((2, 3, 4), (24,), [(2, 3, 4)]),
        ((6, 4), (4, 6), [None]),
        ((4, 6, 2), (8, 6), [(4, 2, 3, 2)]),
        ((2, 12, 1, 1), (2, 12), [(2,), (12,)]),
        ((1, 5), (5,), [(5,)]),
    ],
)
def test_factors(old: tuple[int, ...], new: tuple[int, ...], factors: list[tuple[int, ...] | None]) -> None:
    assert [segment.factors for segment in segments(old, new)] == factors


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_factors_cover_both_sides(sizes: list[int], data: st.DataObject) -> None:
    new = [int(np.prod(part)) for part in _cut(sizes, data)]
    old = [int(np.prod(part)) for part in _cut(sizes, data)]
    for segment in segments(old, new):
        assert np.prod([old[i] for i in segment.old]) == np.prod([new[j] for j in segment.new])
        if segment.factors is not None:
            for sizes_, dims, spans in (
                (old, segment.old, segment.old_factors),
                (new, segment.new, segment.new_factors),
            ):
                assert [int(np.prod([segment.factors[k] for k in span])) for span in spans] == [
                    sizes_[d] for d in dims
                ]


def _cut(sizes: list[int], data: st.DataObject) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for size in sizes:
        parts[-1].append(size)
        if data.draw(st.booleans()):
            parts.append([])
    return parts


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_classes_are_connected_components(edges: list[tuple[int, int]]) -> None:
    atoms = Atoms()
    atoms.fresh(40)
    for a, b in edges:
        atoms.tie(np.array([a]), np.array([b]), None)  # type: ignore[arg-type]
    want = list(range(40))
    for _ in range(40):
        for a, b in edges:
            want[a] = want[b] = min(want[a], want[b])
    assert atoms.classes().tolist() == want


def test_an_operator_without_a_rule_stops_pruning_and_is_named() -> None:
    net = Net(lambda m, x: m.b(torch.cumprod(m.a(x), 1)), a=conv(3, 8), b=conv(8, 4))
    structure = structure_of(canonical_program(net, torch.randn(2, 3, 8, 8)))
    assert [g.fixed for g in structure.groups if g.name == "a.0"] == [
        ("cumprod is read by cumprod, which has no pruning rule",)
    ]


def test_positions_are_no_values() -> None:
    net = Net(lambda m, x: m.a(x).max(1)[1].float() + m.b(m.a(x)).mean(1), a=conv(3, 8), b=conv(8, 4))
    structure = structure_of(canonical_program(net, torch.randn(2, 3, 8, 8)))
    assert not [g for g in structure.prunable if g.name == "a.0"]


@pytest.mark.parametrize(
    "between",
    [
        lambda y: y[:, 2:7],
        lambda y: y.flip(1),
        lambda y: torch.cat([y, y.repeat(1, 2, 1, 1)], 1),
        lambda y: F.pad(y, (0, 0, 0, 0, 2, 1)),
        lambda y: y.unsqueeze(1).expand(-1, 3, -1, -1, -1).flatten(1, 2),
        lambda y: y.sum(1, keepdim=True) * y,
        lambda y: F.normalize(y, dim=1),
        lambda y: y * torch.linalg.vector_norm(y, dim=(2, 3), keepdim=True),
        lambda y: F.adaptive_max_pool2d(y, 3),
        lambda y: F.max_pool2d(y, 2, return_indices=True)[0],
        lambda y: y.view(-1, 8, 64).bmm(torch.ones(2, 64, 9, dtype=y.dtype)).view(-1, 8, 3, 3),
        lambda y: F.interpolate(y.permute(0, 1, 3, 2), (5, 3)),
        lambda y: y[:, :, ::2, ::2] - y[:, :, 1::2, 1::2],
        lambda y: y.where(y > 0, y.new_zeros(())).masked_fill(y > 1, 1.0),
    ],
)
def test_between_two_convolutions(between: object) -> None:
    with torch.no_grad():
        width = between(torch.zeros(2, 8, 8, 8)).shape[1]  # type: ignore[operator]
    net = Net(lambda m, x: m.b(between(m.a(x))), a=nn.Conv2d(3, 8, 3, padding=1), b=conv(width, 4))  # type: ignore[operator]
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    structure, _ = assert_equals_masked(net.double().eval(), x)
    assert [g.name for g in structure.prunable] == ["a"] or width == 5


def test_a_channel_that_is_selected_stays() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.b(y) + y[:, 3:4] + y[:, 5].unsqueeze(1)

    net = Net(forward, a=nn.Conv2d(3, 8, 3, padding=1), b=conv(8, 4)).double().eval()
    structure, _ = assert_equals_masked(net, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert {group.name: len(group) for group in structure.prunable} == {"a": 6} or len(
        structure.prunable
    ) == 0


def test_a_weight_that_is_computed() -> None:
    net = weight_norm().double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    structure = structure_of(canonical_program(net, x))
    assert {group.name: len(group) for group in structure.prunable} == {"a.conv2d": 12}
    assert Importance(structure, "l2").scores()["a.conv2d"].std() > 0
    keep = random_keep(structure, 0.5)
    # At zero the weight would be 0 / 0, so that its reader alone is masked.
    reader = {"b.0.weight": structure.kept_indices(keep)["b.0.weight"]}
    assert rel_l2(cut_program(structure, keep, "test")(x), masked_output(net, reader, x)) < 1e-10


def test_a_wrong_rule_is_caught() -> None:
    model, x = build("unet")
    wrong = {**RULES, torch.ops.aten.cat.default: Rule(lambda flow, node: flow.of(node.args[0][0]))}
    with pytest.raises(PassError, match="pruning rule of cat gives labels"):
        structure_of(canonical_program(model, x), rules=wrong)
