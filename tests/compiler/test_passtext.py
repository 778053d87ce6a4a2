"""Passes as text and back."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxc.catalogue import PASSES
from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.passtext import parse_pipeline, pass_class
from fxc.compiler.pipeline import pipeline_text
from fxc.passes.dead_code import DeadCode


@dataclass(frozen=True)
class Options(Pass):
    """One option of every kind."""

    name: ClassVar[str] = "options"
    ratio: float = 0.5
    align: int = 8
    on: bool = False
    word: str = "x"
    names: tuple[str, ...] = ()
    inner: tuple[Pass, ...] = ()
    maybe: int | None = None

    def apply(self, program):
        return PassResult(program, modified=False)


KNOWN = PASSES | {"options": f"{__name__}:Options"}
words = st.text(max_size=8)


@given(
    st.builds(
        Options,
        ratio=st.floats(allow_nan=False, allow_infinity=False),
        align=st.integers(),
        on=st.booleans(),
        word=words,
        names=st.lists(words, max_size=3).map(tuple),
        inner=st.sampled_from([(), (DeadCode(),), (DeadCode(), Options(word="in"))]),
        maybe=st.none() | st.integers(),
    )
)
def test_every_pass_reads_back(step):
    known = KNOWN | {"options": f"{Options.__module__}:Options"}
    assert parse_pipeline(step.text(), known) == (step,)


def test_braces_may_be_left_out():
    assert parse_pipeline("dead_code, cse{}", PASSES) == parse_pipeline("dead_code{},cse{}", PASSES)


def test_only_what_differs_from_the_default_is_written():
    assert Options(align=16, names=("a", "b c")).text() == 'options{align=16,names=[a,"b c"]}'
    assert pipeline_text(()) == ""
    assert parse_pipeline("", PASSES) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("canonicalise", "unknown pass"),
        ("constant_folding{limits=3}", "no option"),
        ("cse{} dead_code{}", "expected ','"),
        ("constant_folding{limit=3", "unexpected end|expected"),
        ("constant_folding{limit=1.2.3}", "not a number"),
        ("cse{};dead_code", "unexpected character"),
        ("{}", "unexpected"),
    ],
)
def test_mistakes_are_named(text, said):
    with pytest.raises(UsageError) as raised:
        parse_pipeline(text, PASSES)
    assert any(word in str(raised.value) for word in said.split("|")), raised.value


def test_an_unknown_pass_comes_with_the_nearest():
    with pytest.raises(UsageError) as raised:
        pass_class("fold_batchnorm", PASSES)
    assert "fold_batch_norm" in str(raised.value.fix)


def test_a_value_that_cannot_be_written_is_refused():
    with pytest.raises(TypeError, match="set"):
        Options(word={1}).text()  # type: ignore[arg-type]
