"""Every operator case for coreai-fp32: refused by the lint, or written, read back and executed as eager PyTorch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from fxc.backends.apple.export import batch_of
from fxc.backends.coreai.legal import check
from fxc.backends.coreai.target import COREAI_FP32
from fxc.compiler.capture import capture
from fxc.compiler.origin import op_name
from fxc.compiler.program import Program
from fxc.passes.canonicalize import Canonicalize
from tests.backends.coreai.together import Case, together
from tests.conformance.corpus import corpus

MIXED = ("shape/batch_size_as_number", "index/roll_flat", "index/scatter", "index/arange_batch")
"""What these give for one sample depends on the others: a file for one sample is right for one, or cannot be."""
REFUSED = 24
"""At most so many of the corpus; a case that became writable must be let through."""


def program_of(case: Any) -> Program:
    return Canonicalize().apply(capture(case.module, case.inputs)).program


def refused(program: Program) -> bool:
    return any(v.fatal for v in check(program, COREAI_FP32))


@pytest.mark.slow
@pytest.mark.usefixtures("core_ai")
def test_what_is_not_refused_is_right(tmp_path: Path) -> None:
    names, cases, wanted = [], [], []
    for name, case in corpus().items():
        program, inputs = program_of(case), case.inputs
        # Optimization takes dropout out before a file is written.
        if refused(program) or any(op_name(n) == "dropout" for n in program.graph.nodes):
            continue
        if program.dynamic and batch_of(program) == 1 and (name in MIXED or not case.batched):
            inputs = tuple(x[:1] for x in inputs)
        names.append(name)
        cases.append(Case(program, [x.numpy() for x in inputs]))
        with torch.no_grad():
            wanted.append([t.numpy() for t in pytree.tree_leaves(case.module(*inputs))])
    found = together(cases, tmp_path)
    wrong = {name: why for name, got, want in zip(names, found, wanted) if (why := differs(got, want))}
    assert wrong == {}
    assert len(names) > 200


def differs(found: Any, wanted: list[Any]) -> str:
    """How the outputs differ from what is wanted; empty if they do not."""
    if isinstance(found, str):
        return found
    for got, want in zip(found, wanted, strict=True):
        if got.shape != want.shape:
            return f"shape {got.shape}, expected {want.shape}"
        if want.dtype.kind != "f":
            if not np.array_equal(got, want.astype(got.dtype)):
                return "other values"
            continue
        largest = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
        if not np.allclose(got, want, rtol=0, atol=2e-5 * largest, equal_nan=True):
            return f"off by {np.nanmax(np.abs(got - want)) / largest:.1e}"
    return ""


def test_little_is_refused() -> None:
    names = [name for name, case in corpus().items() if refused(program_of(case))]
    assert len(names) <= REFUSED, names
