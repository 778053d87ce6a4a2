"""What the checks allow for float rounding hides no wrong file: bugs planted where they allow it are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.qdq import QUANTIZE_TENSOR
from fxc.compiler.record import record as recorded
from tests.conformance.case import Fn
from tests.random import check as checks
from tests.random import codes
from tests.random.check import Broken, check
from tests.random.rounding import left_open
from tests.random.test_regressions import CASES, OPEN

Change = Callable[[np.ndarray], np.ndarray]


def _plant(monkeypatch: pytest.MonkeyPatch, name: str, change: Change) -> None:
    """Change one initializer of every file that is compared layer by layer."""
    cut = codes.cut

    def planted(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
        found, tensors = cut(model)
        (wanted,) = [i for i in found.graph.initializer if i.name == name]
        values = onnx.numpy_helper.to_array(wanted)
        wanted.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(values.dtype), name))
        return found, tensors

    monkeypatch.setattr(codes, "cut", planted)


PLANTED = {
    "one code too many, where all are ties": ("ties_in_every_place", "hardsigmoid.quantize.zero_point", lambda z: z + 1),
    "a scale that is one percent off": ("ties_in_every_place", "hardsigmoid.quantize.scale", lambda s: s * 1.01),
    "one code too many behind noise": ("mean_of_what_was_normalized", "layers.5.relu.quantize.zero_point", lambda z: z + 1),
    "another factor before a ceil": ("ceil_of_what_was_quantized", "mul/constant", lambda k: k * 1.3),
    "one code too many in a softmax": ("softmax_between_integers", "softmax.quantize.zero_point", lambda z: z + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, initializer, change = PLANTED[name]
    _plant(monkeypatch, initializer, change)
    with pytest.raises(Broken, match="ort-int8"):
        check(CASES[case])


def test_an_output_that_is_wrong_in_a_row_that_vanishes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = checks._ran
    monkeypatch.setattr(
        checks, "_ran", lambda runner, rows: tuple(x + 0.02 * _is_int8(runner) for x in ran(runner, rows))
    )
    with pytest.raises(Broken, match="dB, the graph has"):
        check(OPEN["row_that_vanishes"])


def _is_int8(runner: Any) -> bool:
    return any(k.integer for k in runner.kernels())


@dataclass(frozen=True)
class ReadsLate(Pass):
    """The wrong reading of a write in place: who read the input before the write reads what was written."""

    name: ClassVar[str] = "reads_late"
    promise: ClassVar[Promise] = LOSSY

    def apply(self, program: Program) -> PassResult:
        editor = Editor(program, self.name)
        early, late = [n for n in editor.graph.nodes if n.op == "call_function"]
        late.append(early)
        early.replace_input_with(late.args[0], late)
        return PassResult(editor.finish(), modified=True)


_CANONICAL = checks.canonical()


def test_a_write_in_place_that_is_seen_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "canonical", lambda: (*_CANONICAL, ReadsLate()))
    with pytest.raises(Broken, match="canonical: output 1 is off by"):
        check(CASES["input_overwritten_after_it_was_read"])


def _tenths(x: torch.Tensor) -> torch.Tensor:
    return QUANTIZE_TENSOR(x * 2.0, 1.0, 0, -128, 127, torch.int8)


def test_only_what_lies_within_rounding_of_a_border_is_open() -> None:
    from tests.backends.test_rooms import program_of

    x = torch.tensor([[0.25, 1.25, 0.2501, 0.2499, 3.0, 63.7]])
    program = program_of(Fn(_tenths), x)
    (name,) = [n.name for n in program.graph.nodes if n.target is QUANTIZE_TENSOR]
    found = recorded(program, [name], (x,))
    low, high = left_open(program, (x,), found).codes[name]
    assert low.tolist() == [[0, 2, 1, 0, 6, 127]]
    assert high.tolist() == [[1, 3, 1, 0, 6, 127]]
