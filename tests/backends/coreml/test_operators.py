"""Every operator of the evaluator against coremltools' own value inference, or NumPy, on a saved and re-read program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fxc.backends.coreml.mil.control import CONTROL
from fxc.backends.coreml.mil.table import TABLE
from fxc.backends.coreml.run import load
from tests.backends.coreml import cases, cases_index, cases_resize, cases_shape, cases_sliding
from tests.backends.coreml.made import Case, build_program, save_program

pytest.importorskip("coremltools")

CASES = [
    case for module in (cases, cases_sliding, cases_shape, cases_index, cases_resize) for case in module.CASES
]
ELSEWHERE = {
    *(name for name in TABLE if name.startswith("constexpr_")),  # test_constexpr.py
    "classify",  # test_plain.py
    *CONTROL,  # test_control.py
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.op)
def test_operator(case: Case, tmp_path: Path) -> None:
    runner = load(save_program(build_program(case), tmp_path / "m.mlpackage", case.ios))
    assert case.op in {kind for kind, _ in runner.plan.operators}
    answers, wanted = runner(case.inputs), case.wanted()
    assert len(answers) == len(wanted)
    for answer, want in zip(answers, wanted):
        assert answer.shape == want.shape
        np.testing.assert_allclose(answer, want, rtol=2e-5, atol=2e-6)


def test_every_operator_has_a_case() -> None:
    assert {case.op for case in CASES} | ELSEWHERE == set(TABLE) | set(CONTROL)
