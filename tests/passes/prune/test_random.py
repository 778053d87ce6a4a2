"""Random models of all operators: whatever can be pruned, every promise holds. ``python -m tests.passes.prune.sweep`` runs more."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from fxc.passes.prune.flow import Rule, same
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.rules import RULES
from tests.passes.prune import random_nets, sweep
from tests.passes.prune.random_nets import check
from tests.random.build import random_spec
from tests.random.check import Broken
from tests.random.choices import Choices
from tests.random.spec import Input, Spec, Step

aten = torch.ops.aten

PARTS, EACH = 4, 30

CONV = {"in_channels": 4, "out_channels": 4, "kernel_size": (1, 1)}

FOUND = {
    # A norm over groups of channels is one over positions too: when these shrink, its statistic changes.
    "group_norm_over_positions": Spec(
        (Input((6, 8)),),
        (Step(1, "group_norm", (0,), {"num_groups": 2, "num_channels": 6, "affine": False}),),
        (1,),
        seed=8456,
    ),
    # The group that is left and the one that is pinned changed their names when the first channel went.
    "names_change_when_channels_go": Spec(
        (Input((4, 9, 11), "positive"),),
        (
            Step(0, "batch_norm2d", (0,), {"num_features": 4, "affine": True}),
            Step(1, "select", (1,), {"dim": 1, "index": 1}),
        ),
        (1, 2),
        batch=1,
        seed=5053,
    ),
}  # fmt: skip


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds(part: int) -> None:
    counts: Counter[str] = Counter()
    for index in range(part * EACH, (part + 1) * EACH):
        check(random_spec(Choices(f"prune/{index}")), counts)
    assert counts["models"] == EACH
    assert counts["models pruned"] >= EACH // 2
    assert counts["equal to zeroed values"] >= EACH // 2
    assert counts["equal to the masked module"] >= EACH // 3
    assert counts["in double precision"] >= EACH // 2


@pytest.mark.parametrize("name", FOUND)
def test_fixed(name: str) -> None:
    check(FOUND[name])


def test_a_wrong_rule_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the references are worth: a flip whose labels do not turn, and a norm that says nothing of its statistic."""
    flip = (
        Step(0, "conv2d", (0,), CONV),
        Step(1, "flip", (1,), {"dim": 1}),
        Step(2, "conv2d", (2,), CONV),
    )
    norm_ = FOUND["group_norm_over_positions"]
    for target, spec in (
        (aten.flip.default, Spec((Input((4, 6, 6)),), flip, (3,))),
        (aten.group_norm.default, norm_),
    ):
        check(spec)
        wrong = partial(structure_of, rules={**RULES, target: Rule(same)})
        monkeypatch.setattr(random_nets, "structure_of", wrong)
        with pytest.raises(Broken, match="is off by"):
            check(spec)
        monkeypatch.undo()


def test_a_sweep_takes_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / f"0-{sweep._version()}"
    folder.mkdir()
    line = sweep._example(0, 0)
    (folder / "000000.jsonl").write_text(json.dumps(line) + "\n")
    words = ["--examples", "1", "--results", str(tmp_path)]
    assert sweep.main(words) == 0
    assert "1 of 1 models ran: 1 models" in capsys.readouterr().out
    (folder / "000000.jsonl").write_text(json.dumps({**line, "fault": False, "error": "off"}) + "\n")
    assert sweep.main(words) == 1
    assert "1 promises broken" in capsys.readouterr().out
