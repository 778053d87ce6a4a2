"""Every operator case for iphone-fp32: refused by the lint, or emitted, read back and executed as eager PyTorch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from fxc.backends.apple.export import batch_of
from fxc.backends.coreml.emit import emit
from fxc.backends.coreml.legal import check
from fxc.backends.coreml.run import load
from fxc.backends.coreml.target import IPHONE_FP32
from fxc.compiler.capture import capture
from fxc.compiler.origin import op_name
from fxc.compiler.program import Program
from fxc.passes.canonicalize import Canonicalize
from tests.conformance.corpus import corpus

pytest.importorskip("coremltools")

CASES = corpus()
MIXED = ("shape/batch_size_as_number", "index/roll_flat")
"""What these give for one sample depends on the others: a file for one sample is right for one."""
REFUSED = 45
"""At most so many of the corpus; a case that became writable must be let through."""


def program_of(name: str) -> Program:
    return Canonicalize().apply(capture(CASES[name].module, CASES[name].inputs)).program


def refusals(program: Program) -> list[str]:
    return [v.rule for v in check(program, IPHONE_FP32) if v.fatal]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_refused_is_right(name: str, tmp_path: Path) -> None:
    program, inputs = program_of(name), CASES[name].inputs
    if any(op_name(n) == "dropout" for n in program.graph.nodes):
        pytest.skip("optimization takes dropout out before a file is written")
    if refusals(program):
        pytest.skip("refused")
    if program.dynamic and batch_of(program) == 1 and (name in MIXED or not CASES[name].batched):
        inputs = tuple(x[:1] for x in inputs)
    emitted = emit(program, IPHONE_FP32, tmp_path)
    found = load(tmp_path / emitted.model)([x.numpy() for x in inputs])
    with torch.no_grad():
        expected = [t.numpy() for t in pytree.tree_leaves(CASES[name].module(*inputs))]
    assert len(found) == len(expected)
    for got, want in zip(found, expected):
        assert got.shape == want.shape
        if want.dtype.kind == "f":
            finite = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * finite)
        else:
            np.testing.assert_array_equal(got, want.astype(got.dtype))


def test_little_is_refused() -> None:
    refused = [name for name in CASES if refusals(program_of(name))]
    assert len(refused) <= REFUSED, refused
