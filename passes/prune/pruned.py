"""A pruned model: the smaller program, the plan that made it, and what both say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fxc.compiler.errors import ArtifactError
from fxc.compiler.folders import replacing_directory
from fxc.compiler.macs import macs
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.serialize import GRAPH_FILE, TENSOR_FILE, load_program, write_program
from fxc.passes.prune.channel_masks import Masked, mask
from fxc.passes.prune.cost import Device, latency_of
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.plan import Plan
from fxc.passes.prune.rules import RULES

PLAN_FILE = "plan.json"


@dataclass(frozen=True, repr=False)
class Pruned:
    """What :func:`fxc.prune` gives.

    Attributes:
        program: the smaller one, canonical, its batch norms alive; ``fxc.compile`` takes this object or the program.
        plan: what went. Of several steps, all of them together.
        report: plain data: the groups with their layers, channels and multiply-accumulates before and after, what kept its
            width and why, and the totals.
        original: the program before; ``None`` if this was loaded from a file.
        rules: what pruning knew about operators.
    """

    program: Program
    plan: Plan
    report: dict[str, Any]
    original: Program | None = None
    rules: Rules = field(default_factory=lambda: RULES)

    def __repr__(self) -> str:
        before, after = self.report["macs"]
        return f"Pruned({self.plan.model}, multiply-accumulates {before} -> {after})"

    def module(self) -> nn.Module:
        """An ordinary trainable module with the model's parameter names; it shares the program's parameters."""
        return self.program.module()

    def masked(self) -> Masked:
        """The same plan as masks over the original, whose shapes stay and whose weights come back.

        Raises:
            ArtifactError: the original is not there, as after loading.
        """
        if self.original is None:
            raise ArtifactError(
                "a pruned model from a file has no original", fix="fxc.prune(model, plan=…) has one"
            )
        return mask(self.original, self.plan, self.rules)

    def save(self, path: Path | str, *, force: bool = False) -> Path:
        """Write the program and the plan as a folder of JSON and safetensors.

        Raises:
            ArtifactError: the folder cannot be written, or holds something.
        """
        with replacing_directory(Path(path), force=force, removable=_is_pruned) as folder:
            write_program(self.program, folder)
            self.plan.save(folder / PLAN_FILE)
        return Path(path)

    @staticmethod
    def load(path: Path | str, *, operators: frozenset[str] = frozenset()) -> Pruned:
        """Read what :meth:`save` wrote, without the model's source and without running code.

        Args:
            path: the folder.
            operators: of other packages, that the program may use: ``{"acme.soft_gate.default"}``.

        Raises:
            ArtifactError: missing, cut short or changed.
        """
        program, plan = load_program(path, operators=operators), Plan.load(Path(path) / PLAN_FILE)
        return Pruned(program, plan, report_of(None, program, plan))


def _is_pruned(folder: Path) -> bool:
    return sorted(p.name for p in folder.iterdir()) == sorted((GRAPH_FILE, TENSOR_FILE, PLAN_FILE))


def report_of(
    before: Program | None, after: Program, plan: Plan, device: Device | None = None
) -> dict[str, Any]:
    """The plan with costs, as plain data. Multiply-accumulates are for a batch of one.

    Args:
        before, after: the programs.
        plan: what went.
        device: that a latency is estimated for.
    """
    new, old = layer_macs(after), layer_macs(before) if before is not None else {}
    return {
        "model": plan.model,
        "macs": [sum(old.values()) if old else None, sum(new.values())],
        "params": [_numbers(before) if before is not None else None, _numbers(after)],
        "groups": [
            {
                "name": group.name,
                "layers": list(group.layers),
                "channels": list(group.channels),
                "score": _scores(group.scores, group.kept),
                "macs": [sum(old.get(layer, 0) for layer in group.layers) if old else None,
                         sum(new.get(layer, 0) for layer in group.layers)],
                "changes_statistics": list(group.changes_statistics),
            }
            for group in plan.groups
        ],
        "latency": _latency(before, after, device) if device is not None else None,
        "fixed": {name: list(reasons) for name, reasons in plan.fixed.items()},
    }  # fmt: skip


def _latency(before: Program | None, after: Program, device: Device) -> dict[str, Any]:
    return {
        "target": device.name,
        "milliseconds": [None if p is None else 1e3 * latency_of(p, device) for p in (before, after)],
        "how": f"by a model, not measured: {device.speed.source}",
    }


def layer_macs(program: Program) -> dict[str, int]:
    """Multiply-accumulates by layer."""
    found: dict[str, int] = {}
    for node in program.graph.nodes:
        if count := macs(node):
            found[label_of(node)] = found.get(label_of(node), 0) + count
    return found


def _numbers(program: Program) -> int:
    tensors = {
        id(t): t for n in program.graph.nodes if n.op == "get_attr" for t in (program.tensor(str(n.target)),)
    }
    return sum(t.numel() for t in tensors.values() if isinstance(t, nn.Parameter))


def _scores(scores: tuple[float, ...], kept: tuple[int, ...]) -> dict[str, float | None]:
    """The mean score of what stays and of what goes."""
    stays = set(kept)
    gone = [score for i, score in enumerate(scores) if i not in stays]
    left = [scores[i] for i in kept]
    return {"kept": sum(left) / len(left), "removed": sum(gone) / len(gone) if gone else None}
