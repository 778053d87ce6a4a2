"""The two hundred random models of ``make test``: Hypothesis draws them, the same ones every time."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.random.build import random_spec
from tests.random.check import Broken, Record, RuntimeFault, check, fails_at
from tests.random.choices import Choices
from tests.random.reduce import reduced
from tests.random.spec import Spec

PARTS, EACH = 8, 25


@st.composite
def specs(draw: st.DrawFn, longest: int = 10) -> Spec:
    """Random models, from small to moderate.

    Hypothesis draws the number that names a model. Drawn choice by choice, two in three would be variations of one another.
    """
    return random_spec(Choices(str(draw(st.integers(0, 2**60)))), longest=longest)


def run_part(part: int) -> Record:
    """One of the :data:`PARTS`: every promise holds on :data:`EACH` models.

    Raises:
        AssertionError: with the smallest model found that breaks the same promise.
    """
    record = Record()

    # A model is made smaller by taking steps out of it, which Hypothesis knows nothing of.
    @seed(part)
    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(spec=specs())
    def holds(spec: Spec) -> None:
        try:
            check(spec, record)
        except RuntimeFault:
            record.counts["runtime faults"] += 1
        except Broken as error:
            small = reduced(spec, fails_at(error.stage))
            raise AssertionError(f"{error}\n{small.text()}") from error

    holds()
    return record
