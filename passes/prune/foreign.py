"""Rules of other packages are believed only as far as they hold: checked on the example inputs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, fx

from fxc.compiler.errors import PassError
from fxc.compiler.origin import op_name
from fxc.compiler.program import Program
from fxc.passes.prune.atoms import Flags
from fxc.passes.prune.groups import Group, Structure
from fxc.passes.prune.masks import masks_of, with_masks
from fxc.passes.prune.rules import RULES

TOLERANCE = 1e-3
"""Relative error of the largest output; a wrong rule is wrong by far more, float noise by far less."""


def is_foreign(structure: Structure, node: fx.Node) -> bool:
    """Whether what is known about a node's operator came from another package."""
    return node.target in structure.rules and node.target not in RULES


def check_foreign(structure: Structure, keep: Flags, smaller: Program) -> None:
    """Whether the smaller program computes what the whole one does with the same channels hidden.

    Nothing is run if no rule of another package was asked, or if a statistic changes, so that both may differ.

    Raises:
        PassError: they differ, so that a rule must be wrong.
    """
    asked = [node for node in structure.program.graph.nodes if is_foreign(structure, node)]
    if not asked or any(group.changes_statistics for group in _shrunk(structure, keep)):
        return
    hidden = with_masks(structure.program, masks_of(structure, keep))
    inputs = structure.program.example_inputs
    with torch.no_grad():
        pairs = zip(smaller.run_flat(*inputs), hidden.run_flat(*inputs))
    if not all(a.shape == b.shape and _near(a, b) for a, b in pairs):
        names = sorted(set(map(op_name, asked)))
        raise PassError(
            f"the pruning rule of {' or of '.join(names)} is wrong about this model",
            why="without those channels it computes something else than with zeros in their place",
            fix="correct the rule in the extension that brings it, or leave it out: then the channels stay",
        )


def _shrunk(structure: Structure, keep: Flags) -> Iterable[Group]:
    return (group for group in structure.prunable if not keep[group.units].all())


def _near(found: Tensor, wanted: Tensor) -> bool:
    if not wanted.is_floating_point() or not wanted.numel():
        return True
    return float((found - wanted).abs().max()) <= TOLERANCE * float(wanted.abs().max())
