"""Pruning through a stranger's operators: with its rules their channels shrink, without they stay for a reason."""

from pathlib import Path
from typing import Any

import acme_fxc.ops
import pytest
import torch
from acme_fxc import EXTENSION
from acme_fxc.pruning import PRUNING
from torch import Tensor, nn

import fxc
from fxc import Extension, catalogue
from fxc.compiler.errors import ArtifactError, PassError, UsageError
from fxc.passes.prune.flow import Rule, same
from fxc.passes.prune.groups import structure_of
from tests.models.metrics import rel_l2
from tests.passes.prune.masked import masked_output

FLIP = torch.ops.acme.flip_channels.default
GATE = torch.ops.acme.soft_gate.default


class Gated(nn.Module):
    """A residual through a flip, so that channel i and channel 7 - i of one layer go together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = acme_fxc.ops.soft_gate(self.a(x), 1.5)
        return self.c(x + acme_fxc.ops.flip_channels(self.b(x)))


def widths(pruned: fxc.Pruned) -> dict[str, tuple[int, int]]:
    return {group.name: group.channels for group in pruned.plan.groups}


def test_with_its_rules_channels_shrink(net: nn.Module, image: Tensor) -> None:
    pruned = fxc.prune(net, 0.5, example_inputs=image, criterion="random", extensions=[EXTENSION])
    assert widths(pruned) == {"stem": (8, 4), "body": (12, 6), "tail": (16, 8)}
    structure = structure_of(pruned.original, rules=pruned.rules)
    kept = structure.kept_indices(pruned.plan.keep(structure))
    assert rel_l2(pruned.program(image), masked_output(net, kept, image)) < 1e-5
    assert rel_l2(pruned.masked().program(image), pruned.program(image)) < 1e-5
    assert rel_l2(pruned.masked().cut()(image), pruned.program(image)) == 0
    # What the body makes is read from its end to its start.
    body = set(kept["body.weight"][0].tolist())
    assert set(kept["tail.weight"][1].tolist()) == {11 - i for i in body} != body


def test_without_them_channels_stay_for_a_reason(net: nn.Module, image: Tensor) -> None:
    pruned = fxc.prune(net, 0.5, example_inputs=image)
    assert widths(pruned) == {"tail": (16, 8)}
    reasons = pruned.report["fixed"]
    assert "soft_gate is read by acme.soft_gate, which has no pruning rule" in reasons["stem"]
    assert any("acme.flip_channels, which has no pruning rule" in text for text in reasons["body"])


def test_a_rule_may_tie(image: Tensor) -> None:
    net = Gated().eval()
    pruned = fxc.prune(net, 0.5, example_inputs=image, criterion="random", extensions=[EXTENSION])
    structure = structure_of(pruned.original, rules=pruned.rules)
    kept = structure.kept_indices(pruned.plan.keep(structure))
    assert set(kept["b.weight"][0].tolist()) == {7 - i for i in kept["a.weight"][0].tolist()}
    assert rel_l2(pruned.program(image), masked_output(net, kept, image)) < 1e-5


def test_every_way_in_knows_the_rules(net: nn.Module, image: Tensor, tmp_path: Path) -> None:
    want = fxc.prune(net, 0.5, example_inputs=image, extensions=[EXTENSION])
    words: dict[str, Any] = {"example_inputs": image, "extensions": [EXTENSION]}
    for prune in (0.5, {"ratio": 0.5}, want.plan):
        artifact = fxc.compile(net, "ort-fp32", prune=prune, **words)
        assert rel_l2(artifact(image), want.program(image)) < 1e-5
    *_, last = fxc.prune_steps(net, 0.5, steps=2, **words)
    assert widths(last) == widths(want)
    (step,) = catalogue.with_extensions(EXTENSION).pipeline("prune_channels{}")
    assert FLIP in step.rules
    sparse = fxc.sparsify(net, "2:4", **words)
    assert set(sparse.density().values()) == {0.5}


def test_a_pruned_program_from_disk(net: nn.Module, image: Tensor, tmp_path: Path) -> None:
    pruned = fxc.prune(net, 0.5, example_inputs=image, extensions=[EXTENSION])
    pruned.save(tmp_path / "small")
    with pytest.raises(ArtifactError, match="belongs to another package"):
        fxc.Pruned.load(tmp_path / "small")
    loaded = fxc.Pruned.load(tmp_path / "small", operators=frozenset({str(FLIP), str(GATE)}))
    assert torch.equal(loaded.program(image), pruned.program(image))
    artifact = fxc.compile(tmp_path / "small", "ort-fp32", extensions=[EXTENSION])
    assert rel_l2(artifact(image), pruned.program(image)) < 1e-5


def test_a_rule_that_is_wrong_about_numbers_is_seen(net: nn.Module, image: Tensor) -> None:
    extension = Extension("e", pruning={**PRUNING, FLIP: Rule(same)})
    with pytest.raises(PassError, match=r"acme\.flip_channels or of acme\.soft_gate is wrong"):
        fxc.prune(net, 0.5, example_inputs=image, criterion="random", extensions=[extension])


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(lambda flow, node: 1 // 0), "pruning rule of acme.flip_channels failed"),
        (Rule(lambda flow, node: (None,)), "gives labels [None]"),
        (Rule(same, lambda cut, node: {7: 3}["x"]), "pruning rule of acme.flip_channels failed"),
    ],
)
def test_a_rule_that_fails_is_named(rule: Rule, said: str, net: nn.Module, image: Tensor) -> None:
    extension = Extension("e", pruning={**PRUNING, FLIP: rule})
    with pytest.raises(PassError) as caught:
        fxc.prune(net, 0.5, example_inputs=image, extensions=[extension])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"pruning": [FLIP]}, "pruning: takes a mapping from operator to rule, got list"),
        ({"pruning": {"acme.flip_channels": Rule(same)}}, "is no operator overload"),
        ({"pruning": {FLIP: same}}, "is no fxc.passes.prune.flow.Rule"),
        ({"pruning": {FLIP: Rule}}, "is no fxc.passes.prune.flow.Rule"),
        ({"pruning": "acme_fxc"}, "'acme_fxc' is no reference"),
    ],
)
def test_what_is_no_rule_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Extension("e", **words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("extensions", "said"),
    [
        (
            [Extension("e", pruning={torch.ops.aten.conv2d.default: Rule(same)})],
            "fxc has a pruning rule for aten.conv2d",
        ),
        ([EXTENSION, Extension("e", pruning=PRUNING)], "extension acme has a pruning rule"),
    ],
)
def test_no_operator_has_two_rules(extensions: list[Extension], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        catalogue.with_extensions(extensions)
    assert said in str(caught.value)
