"""Random graphs from the corpus of all operators: whatever can be pruned, equality holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fxc.compiler.capture import capture
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import canonical
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.groups import Structure, structure_of
from tests.passes.prune.zeroed import zeroed_outputs
from tests.random.build import random_spec
from tests.random.choices import Choices
from tests.random.spec import Net

MODELS, FEWEST = 36, 3


def programs() -> Iterator[tuple[Program, tuple[torch.Tensor, ...]]]:
    for index in range(MODELS):
        spec = random_spec(Choices(f"9/{index}"))
        rows = spec.rows(0, spec.batch)
        captured = capture(Net(spec), rows, dynamic_batch=None if spec.dynamic else False)
        yield run_pipeline(captured, canonical()), rows


@pytest.mark.filterwarnings("ignore")
def test_pruned_equals_zeroed() -> None:
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for program, rows in programs():
            structure = structure_of(program)
            shapes_run(structure, rows)
            exact = [group for group in structure.prunable if not group.changes_statistics]
            if exact:
                count += 1
                keep = halved(structure, [group.units for group in exact])
                found = cut_program(structure, keep, "test").run_flat(*rows)
                assert_close(found, zeroed_outputs(structure.flow, keep, rows))
    assert count >= FEWEST, "hardly a model could be pruned"


def halved(structure: Structure, units: list[np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return structure.keep([rng.permutation(each)[: max(1, len(each) // 2)] for each in units])


def shapes_run(structure: Structure, rows: tuple[torch.Tensor, ...]) -> None:
    """With every group at its narrowest the graph still runs, and its outputs keep their shapes."""
    keep = structure.keep([group.units[1:] for group in structure.prunable])
    found = cut_program(structure, keep, "test").run_flat(*rows)
    assert [y.shape for y in found] == [y.shape for y in structure.program.run_flat(*rows)]


def assert_close(found: tuple[torch.Tensor, ...], want: tuple[torch.Tensor, ...]) -> None:
    for a, b in zip(found, want):
        assert a.shape == b.shape
        if a.is_floating_point():
            assert (a - b).double().norm() <= 1e-4 * (b.double().norm() + 1e-2)
