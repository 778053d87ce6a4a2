"""Running pipelines: facts, history, notes, and stopping."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from fxc.compiler.errors import PassError
from fxc.compiler.instruments import StopAfter
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise, Sequence
from fxc.compiler.pipeline import pipeline_text, run_pipeline
from fxc.compiler.program import Note
from fxc.passes.canonicalize import Canonicalize
from fxc.passes.fold_batch_norm import FoldBatchNorm
from fxc.passes.remove_dropout import RemoveDropout
from tests.passes.checks import captured, operators


@dataclass(frozen=True)
class Say(Pass):
    """Changes nothing and says a word."""

    name: ClassVar[str] = "say"
    ensures: ClassVar[frozenset[str]] = frozenset({"said"})
    word: str = "hello"

    def apply(self, program):
        return PassResult(program, modified=False, notes=(Note("info", self.word, by=self.name),))


@dataclass(frozen=True)
class Spoil(Pass):
    """Adds one note's worth of change, and is no longer canonical."""

    name: ClassVar[str] = "spoil"
    promise: ClassVar[Promise] = LOSSY
    destroys: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program):
        return PassResult(program.note(Note("info", "spoiled")), modified=True)


def _program():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout())
    return captured(model, torch.randn(2, 3, 5, 5))


def test_facts_history_and_notes_are_carried():
    program = _program()
    got = run_pipeline(program, (Canonicalize(), Say(word="well"), RemoveDropout(), FoldBatchNorm()))
    assert {"canonical", "said"} <= got.facts
    assert got.history[-2:] == ("remove_dropout{}", "fold_batch_norm{}")
    assert "well" in [note.text for note in got.notes]
    assert operators(got) == ["conv2d"]
    assert "said" not in program.facts


def test_a_pass_before_what_it_requires_is_refused():
    with pytest.raises(PassError, match="requires canonical") as raised:
        run_pipeline(_program(), (FoldBatchNorm(),))
    assert raised.value.fix


def test_a_pass_that_destroys_a_fact_stops_those_that_need_it():
    with pytest.raises(PassError, match="requires canonical"):
        run_pipeline(_program(), (Canonicalize(), Spoil(), FoldBatchNorm()))


def test_stopping_after_a_number_of_passes():
    steps = (Canonicalize(), RemoveDropout(), FoldBatchNorm())
    got = run_pipeline(_program(), steps, (StopAfter(2),))
    assert operators(got) == ["conv2d", "batch_norm"]


def test_an_empty_pipeline_changes_nothing():
    program = _program()
    assert run_pipeline(program, ()) is program


def test_a_sequence_repeats_until_nothing_changes():
    program = run_pipeline(_program(), (Canonicalize(),))
    group = Sequence(passes=(RemoveDropout(), FoldBatchNorm()), rounds=3)
    result = group.apply(program)
    assert result.modified
    assert operators(result.program) == ["conv2d"]
    assert not group.apply(result.program).modified


def test_text_of_a_pipeline():
    assert pipeline_text((Say(), Say(word="a b"))) == 'say{},say{word="a b"}'
