"""What the tests beside this file share: a canonical program, its structure, and random units that go."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.execute import steps
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import canonical
from fxc.passes.prune.atoms import Flags, Ints
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.groups import Structure, structure_of
from tests.models.metrics import rel_l2, rel_max
from tests.passes.prune.masked import masked_output


def canonical_program(model: nn.Module, *inputs: Tensor) -> Program:
    """The model in the form that pruning takes."""
    return run_pipeline(capture(model.eval(), inputs), canonical())


def random_keep(structure: Structure, share: float, seed: int = 0) -> Flags:
    """Which atoms stay when ``share`` of the units of every group goes, drawn at random, so that nothing hides an error."""
    rng = np.random.default_rng(seed)
    removed: list[Ints] = []
    for group in structure.prunable:
        count = min(len(group) - 1, max(1, round(len(group) * share)))
        removed.append(rng.permutation(group.units)[:count])
    return structure.keep(removed)


def assert_equals_masked(
    model: nn.Module, x: Tensor, *, share: float = 0.5, heads: bool = False, seed: int = 0
) -> tuple[Structure, Program]:
    """The pruned program answers what the eager model answers with its removed channels at zero."""
    structure = structure_of(canonical_program(model, x), heads=heads)
    keep = random_keep(structure, share, seed)
    pruned = cut_program(structure, keep, "test")
    found, want = pruned(x), masked_output(model, structure.kept_indices(keep), x)
    tolerance = 1e-10 if x.dtype == torch.float64 else 1e-4
    assert rel_l2(found, want) <= tolerance
    assert rel_max(found, want) <= tolerance
    assert_smaller(structure, keep, pruned)
    return structure, pruned


def assert_smaller(structure: Structure, keep: Flags, pruned: Program) -> None:
    """Every tensor has the size that its labels say, nothing is empty, and every value's shape is what runs."""
    for path, axes in structure.kept_indices(keep).items():
        for axis, indices in axes.items():
            assert pruned.tensor(path).shape[axis] == len(indices) > 0
    for node, value in steps(pruned, pruned.example_inputs):
        if isinstance(value, Tensor):
            known = [size for size in node.meta["val"].shape if isinstance(size, int)]
            assert [s for s, k in zip(value.shape, node.meta["val"].shape) if isinstance(k, int)] == known
    for before, after in zip(structure.program.outputs, pruned.outputs):
        assert before == after
