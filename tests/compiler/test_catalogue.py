"""The catalogue: every name leads to what it says, and pipelines read back from their text."""

from __future__ import annotations

import pytest

from fxc import catalogue
from fxc.compiler.errors import UsageError
from fxc.compiler.pipeline import pipeline_text
from fxc.passes.pipelines import optimize
from fxc.passes.substitute import Substitute


@pytest.mark.parametrize("name", catalogue.PASSES)
def test_every_pass_has_the_name_it_goes_by(name: str) -> None:
    assert catalogue.resolve(catalogue.PASSES[name]).name == name


@pytest.mark.parametrize("name", catalogue.TARGETS)
def test_every_target_has_the_name_it_goes_by_and_a_room(name: str) -> None:
    target = catalogue.target(name)
    assert target.name == name
    assert target.backend in catalogue.ROOMS


def test_a_pipeline_reads_back_from_its_text() -> None:
    steps = (*optimize(), Substitute(("sdpa", "silu")))
    assert catalogue.pipeline(pipeline_text(steps)) == steps


def test_unknown_names_come_with_near_ones() -> None:
    with pytest.raises(UsageError, match="fold_batchnorm") as error:
        catalogue.pipeline("fold_batchnorm")
    assert "fold_batch_norm" in str(error.value)
    with pytest.raises(UsageError) as error:
        catalogue.target("cpu-int9")
    assert "cpu-int8" in str(error.value)
