"""Two hundred random models through the whole compiler; ``make zoo`` runs ten thousand."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from tests.random import check as checks
from tests.random import reduce, sweep
from tests.random.build import random_spec, sound
from tests.random.check import Broken, check
from tests.random.choices import Choices
from tests.random.hundreds import EACH, PARTS, run_part
from tests.random.spec import Input, Net, Spec, Step

SMALL = Spec(
    (Input((4, 6, 6)),),
    (
        Step(0, "batch_norm2d", (0,), {"num_features": 4, "affine": True}),
        Step(1, "sigmoid", (1,)),
        Step(2, "conv_norm_act", (2,), {"width": 4, "out": 4, "kernel": 1, "act": "relu", "before": False, "pad": True}),
        Step(3, "add", (3, 2)),
    ),
    (4, 1),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds(part: int) -> None:
    record = run_part(part)
    assert record.counts["models"] >= EACH
    assert record.counts["ort-int8 tensors"] > EACH
    assert record.counts["runtime faults"] <= 1
    # Hypothesis draws other examples after any change of the code, so that this is no exact number.
    assert len(record.operators) > 45, sorted(record.operators)


def test_a_seed_names_a_model() -> None:
    assert random_spec(Choices("7/3")) == random_spec(Choices("7/3"))
    assert random_spec(Choices("7/3")) != random_spec(Choices("7/4"))


def test_models_are_alive_and_varied() -> None:
    """Nothing vanishes, nothing overflows, and three hundred models hold most kinds of operators."""
    kinds: Counter[str] = Counter()
    for index in range(300):
        spec = random_spec(Choices(f"0/{index}"))
        kinds.update(step.op for step in spec.steps)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = Net(spec)(*spec.rows())
        for value in found if isinstance(found, tuple) else (found,):
            assert value.numel()
            assert not value.is_floating_point() or 1e-3 < float(value.abs().max()) < 100.0
    assert len(kinds) > 180


@dataclass(frozen=True)
class Louder(Pass):
    """Makes every parameter one percent larger, and promises nothing, so that no instrument minds."""

    name: ClassVar[str] = "louder"
    promise: ClassVar[Promise] = LOSSY

    def apply(self, program: Program) -> PassResult:
        editor = Editor(program, self.name)
        for node in list(editor.graph.nodes):
            if node.op == "get_attr" and editor.tensor(node).is_floating_point():
                editor.set_tensor(node, editor.tensor(node) * 1.01)
        return PassResult(editor.finish(), modified=True)


def test_a_wrong_pass_is_seen_and_its_model_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    check(SMALL)
    monkeypatch.setattr(checks, "canonical", lambda: (*_CANONICAL, Louder()))
    with pytest.raises(Broken, match="off by"):
        check(SMALL)
    small = reduce.reduced(SMALL, checks.fails_at("canonical"))
    assert len(small.steps) == 1
    assert len(small.outputs) == 1
    assert sound(small)
    assert "Step(" in small.text()


_CANONICAL = checks.canonical()


def test_a_wrong_file_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def louder(rows: Any, found: Any) -> Any:
        return tuple(x * 1.01 if x.is_floating_point() else x for x in found)

    ran = checks._ran
    monkeypatch.setattr(checks, "_ran", lambda runner, rows: louder(rows, ran(runner, rows)))
    with pytest.raises(Broken, match=r"ort-fp32: output 0 is off by 0\.01"):
        check(SMALL)


@pytest.mark.filterwarnings("ignore")
def test_a_sweep_goes_on_where_it_was(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--examples",
        "2",
        "--processes",
        "1",
        "--no-page",
        "--results",
        str(tmp_path),
        "--without-tests",
    ]
    assert sweep.main(options) == 0
    (stored,) = tmp_path.glob("*/*.jsonl")
    lines = stored.read_text().splitlines()
    assert len(lines) == 2
    stored.write_text(lines[0] + '\n{"index": 1, "st')
    assert sweep.main(options) == 0
    again = stored.read_text().splitlines()
    assert again[0] == lines[0]
    assert len(again) == 2
    shown = capsys.readouterr()
    assert "**2 of 2 models**" in shown.out
    assert "0 to 2: 0 broken so far" in shown.err
    assert shown.err.endswith("2 of 2 models ran; every promise held; OpenVINO's own faults: 0\n")
    # What it does not run again, it counts again.
    error = {"index": 1, "stage": "simplify", "fault": False, "error": "simplify: off"}
    stored.write_text(f"{lines[0]}\n{json.dumps(error)}\n")
    assert sweep.main(options) == 1
    shown = capsys.readouterr()
    assert "0 to 2: 1 broken so far" in shown.err
    assert "1 broke a promise: 1;" in shown.err
