"""Prune one model of the zoo by random importance and compare with the masked original; prints one JSON row."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fxc.compiler.macs import macs
from fxc.compiler.program import Program
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.groups import Group, Structure, structure_of
from fxc.passes.prune.prune_channels import PruneChannels
from tests.models.metrics import rel_l2, rel_max
from tests.models.zoo import build, small_resolution
from tests.passes.prune.cases import canonical_program
from tests.passes.prune.masked import masked_output

RATIOS = (0.3, 0.5)


def measure(name: str) -> dict[str, Any]:
    """One row: the groups, the costs, and the distance from the masked original for both precisions."""
    model, x = build(name, resolution=small_resolution(name))
    program = canonical_program(model, x)
    start = time.process_time()
    structure = structure_of(program)
    plan = PruneChannels(ratio=0.5).plan(structure)
    keep = plan.keep(structure)
    planned = time.process_time()
    smaller = cut_program(structure, keep, "zoo")
    ended = time.process_time()
    return {
        "groups": len(structure.groups),
        "shrunk": sum(len(g.kept) < g.units for g in plan.groups),
        "statistics": sum(bool(g.changes_statistics) for g in plan.groups),
        "left": left(structure.groups),
        "macs": total(smaller) / total(program),
        "plan_seconds": planned - start,
        "cut_seconds": ended - planned,
        "float32": [distance(model, x, structure, ratio) for ratio in RATIOS],
        "float64": in_double(model, x),
    }


def in_double(model: nn.Module, x: Tensor) -> float:
    """The distance at half of the channels in double precision."""
    model, x = model.double(), x.double()
    return distance(model, x, structure_of(canonical_program(model, x)), 0.5)


def distance(model: nn.Module, x: Tensor, structure: Structure, ratio: float) -> float:
    """The larger of the relative 2-norm and maximum between the pruned program and the masked model."""
    plan = PruneChannels(ratio=ratio, criterion="random", seed=1).plan(structure)
    keep = plan.keep(structure)
    found = cut_program(structure, keep, "zoo")(x)
    want = masked_output(model, structure.kept_indices(keep), x)
    return max(rel_l2(found, want), rel_max(found, want))


def left(groups: Sequence[Group]) -> dict[str, int]:
    """Why groups keep every channel, and how many do; the layers that make the model's output are none of them."""
    found: dict[str, int] = {}
    for group in groups:
        reason = next((r for r in group.fixed if "model's output" in r), "; ".join(group.fixed[:1]))
        if reason and "model's output" not in reason:
            said = " ".join(reason.split(" ")[1:]) if " is one unit" not in f" {reason}" else reason
            found[said] = found.get(said, 0) + 1
    return found


def total(program: Program) -> int:
    """Multiply-accumulates for a batch of one."""
    return sum(map(macs, program.graph.nodes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(sys.argv[1])))
