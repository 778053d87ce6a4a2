"""Instruments: a broken promise is caught and named."""

import tempfile
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fxc.compiler.editor import Editor
from fxc.compiler.errors import PassError
from fxc.compiler.instruments import StopAfter, Timer, Verify, relative_error
from fxc.compiler.passbase import CLOSE, EXACT, LOSSY, Pass, PassResult, Promise
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.serialize import load_program
from fxc.passes.dead_code import DeadCode
from tests.passes.checks import Fn, canonical

aten = torch.ops.aten
X = torch.rand(2, 3) + 1


@dataclass(frozen=True)
class Nudge(Pass):
    """Multiplies the first relu's result by ``factor``."""

    name: ClassVar[str] = "nudge"
    promise: ClassVar[Promise] = EXACT
    factor: float = 1.0

    def apply(self, program):
        editor = Editor(program, self.name)
        relu = next(n for n in editor.graph.nodes if n.target is aten.relu.default)
        readers = list(relu.users)
        with editor.after(relu):
            scaled = editor.call(aten.mul.Scalar, (relu, self.factor), origins=(relu,))
        for reader in readers:
            reader.replace_input_with(relu, scaled)
        return PassResult(editor.finish(), modified=True)


@dataclass(frozen=True)
class CloseNudge(Nudge):
    name: ClassVar[str] = "close_nudge"
    promise: ClassVar[Promise] = CLOSE


@dataclass(frozen=True)
class LossyNudge(Nudge):
    name: ClassVar[str] = "lossy_nudge"
    promise: ClassVar[Promise] = LOSSY


@dataclass(frozen=True)
class Liar(Nudge):
    """Changes the graph and denies it."""

    name: ClassVar[str] = "liar"

    def apply(self, program):
        return PassResult(super().apply(program).program, modified=False)


def _program():
    return canonical(Fn(lambda m, x: x.relu()), X)


def test_an_exact_pass_may_not_move_a_bit():
    run_pipeline(_program(), (Nudge(factor=1.0),), (Verify(),))
    with pytest.raises(PassError, match=r"nudge\{factor=1.0000002\} promised exact"):
        run_pipeline(_program(), (Nudge(factor=1.0000002),), (Verify(),))


def test_a_broken_promise_names_the_layer_and_leaves_a_reproducer(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    step = Nudge(factor=1.5)
    with pytest.raises(PassError) as error:
        run_pipeline(_program(), (step,), (Verify(),))
    assert "relu" in error.value.where
    (folder,) = tmp_path.glob("fxc-reproducer-*")
    assert str(folder) in error.value.fix
    assert (folder / "pass.txt").read_text() == step.text() + "\n"
    inputs = load_file(folder / "inputs.safetensors")
    again = load_program(folder / "program")
    with pytest.raises(PassError, match="promised exact"):
        run_pipeline(again, (step,), (Verify(inputs=(inputs["0"],)),))


def test_a_close_pass_has_its_tolerance():
    verify = Verify()
    run_pipeline(_program(), (CloseNudge(factor=1.00001),), (verify,))
    assert verify.drift[0][1] == pytest.approx(1e-5, rel=0.05)
    with pytest.raises(PassError, match="close"):
        run_pipeline(_program(), (CloseNudge(factor=1.001),), (Verify(),))


def test_a_lossy_pass_may_move_but_not_to_nan():
    run_pipeline(_program(), (LossyNudge(factor=3.0),), (Verify(),))


def test_a_lossy_pass_is_not_run_for_but_its_shapes_are_checked():
    verify = Verify()
    run_pipeline(_program(), (LossyNudge(factor=3.0), Nudge(factor=1.0)), (verify,))
    assert verify.drift == [("lossy_nudge{factor=3.0}", None), ("nudge{}", 0.0)]

    @dataclass(frozen=True)
    class Half(LossyNudge):
        name: ClassVar[str] = "half"

        def apply(self, program):
            editor = Editor(program, self.name)
            relu = next(n for n in editor.graph.nodes if n.target is aten.relu.default)
            with editor.after(relu):
                half = editor.call(aten.slice.Tensor, (relu, 1, 0, 1, 1), origins=(relu,))
            relu.replace_all_uses_with(half, delete_user_cb=lambda user: user is not half)
            return PassResult(editor.finish(), modified=True)

    with pytest.raises(
        PassError, match=r"half\{.*turned output output from f32\[s\d+,3\] into f32\[s\d+,1\]"
    ):
        run_pipeline(_program(), (Half(),), (Verify(),))


def test_what_leaves_every_operator_as_it_was_needs_no_run():
    @dataclass(frozen=True)
    class Label(Pass):
        name: ClassVar[str] = "label"

        def apply(self, program):
            editor = Editor(program, self.name)
            for node in editor.graph.nodes:
                node.meta["label"] = "x"
            return PassResult(editor.finish(), modified=True)

    # Inputs that do not fit at all: a run would fail.
    verify = Verify(inputs=(torch.zeros(5, 5, 5),))
    run_pipeline(canonical(nn.Linear(3, 2), X), (Label(),), (verify,))
    assert verify.drift == [("label{}", 0.0)]


def test_each_pass_answers_for_itself():
    # The reference moves along: two passes of half the tolerance are both fine.
    steps = (CloseNudge(factor=1.00007), CloseNudge(factor=1.00007))
    run_pipeline(_program(), steps, (Verify(),))


def test_a_pass_that_denies_its_change_is_caught():
    with pytest.raises(PassError, match="modified=False"):
        run_pipeline(_program(), (Liar(),), (Verify(),))


def test_verify_takes_inputs_of_its_own():
    verify = Verify(inputs=(torch.zeros(2, 3),))
    run_pipeline(_program(), (Nudge(factor=2.0),), (verify,))
    assert verify.drift == [("nudge{factor=2.0}", 0.0)]


def test_the_timer_lists_every_pass_in_order():
    timer = Timer()
    run_pipeline(_program(), (DeadCode(), Nudge()), (timer,))
    assert [text for text, _ in timer.seconds] == ["dead_code{}", "nudge{}"]
    assert all(seconds >= 0 for _, seconds in timer.seconds)


def test_stop_after_counts():
    stop = StopAfter(1)
    got = run_pipeline(_program(), (Nudge(), Nudge()), (stop,))
    assert (stop.seen, len(got.history)) == (1, 1)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("want", "got", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.0], [3.0, 4.5], 0.125),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [1.0, 1.0], INF),
        ([INF, 1.0], [INF, 1.0], 0.0),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([1.0, 1.0], [INF, 1.0], INF),
        ([], [], 0.0),
    ],
)
def test_relative_error(want, got, error):
    assert relative_error(torch.tensor(want), torch.tensor(got)) == pytest.approx(error)


def test_relative_error_of_other_shapes_is_infinite():
    assert relative_error(torch.zeros(2), torch.zeros(3)) == INF


def test_a_changed_dtype_is_a_broken_promise():
    program = canonical(nn.Sequential(nn.ReLU()), X)

    @dataclass(frozen=True)
    class Widen(Pass):
        name: ClassVar[str] = "widen"

        def apply(self, program):
            editor = Editor(program, self.name)
            relu = next(n for n in editor.graph.nodes if n.target is aten.relu.default)
            with editor.after(relu):
                wide = editor.call(aten.to.dtype, (relu, torch.float64), origins=(relu,))
            relu.replace_all_uses_with(wide)
            wide.replace_input_with(wide, relu)
            return PassResult(editor.finish(), modified=True)

    with pytest.raises(PassError, match="widen"):
        run_pipeline(program, (Widen(),), (Verify(),))
