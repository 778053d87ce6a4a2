"""The pass ``prune_channels``: importance, selection and the cut in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import ClassVar

from torch import Tensor

from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import LOSSY, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.passes.prune.cost import Device, latency_of
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.flow import Rules
from fxc.passes.prune.groups import Structure, structure_of
from fxc.passes.prune.importance import Importance, check_criterion
from fxc.passes.prune.notes import latency_note, notes_of
from fxc.passes.prune.plan import Plan, plan_of
from fxc.passes.prune.rules import RULES
from fxc.passes.prune.select import Wanted, Whole, select


def milliseconds(text: str) -> float:
    """``"3.5ms"`` as a number.

    Raises:
        UsageError: another form.
    """
    try:
        value = float(text.removesuffix("ms"))
    except ValueError:
        value = nan
    if not text.endswith("ms") or not isfinite(value) or value <= 0:
        raise UsageError(
            f"latency {text!r} cannot be read", fix='latency="3.5ms", or latency=0.5 for half of what it is'
        )
    return value


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Remove channels, with everything that must shrink with them. Batch norms are still alive.

    conv(3 -> 64), batch_norm(64), conv(64 -> 32)  ->  conv(3 -> 32), batch_norm(32), conv(32 -> 32)

    Attributes:
        ratio: share of the channels that goes, in [0, 1).
        macs, params: share of the original that may be left, in (0, 1]; the ratio is then found.
        latency: the same for the time that a model of ``device`` estimates, or that time, ``"3.5ms"``.
        criterion: what makes a channel matter; one of :data:`fxc.passes.prune.importance.CRITERIA`.
        ranking: ``local`` within each group, or ``global``.
        align: multiple that widths are rounded to.
        layers: pairs of a pattern and a ratio of its own.
        protect: patterns of layers that keep every channel.
        heads: attention loses whole heads, not parts of each.
        seed: of the random criterion.
        gradients: by parameter, for the Taylor criterion.
        whole: what shares are of, for one of several steps.
        device: that latency is estimated for; not part of the text either.
        rules: what pruning knows about operators; not part of the text, the catalogue puts in those of extensions.
    """

    name: ClassVar[str] = "prune_channels"
    promise: ClassVar[Promise] = LOSSY
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    ratio: float = 0.5
    macs: float | None = None
    params: float | None = None
    latency: float | str | None = None
    criterion: str = "l2"
    ranking: str = "local"
    align: int = 1
    layers: tuple[tuple[str, float], ...] = ()
    protect: tuple[str, ...] = ()
    heads: bool = False
    seed: int = 0
    gradients: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    whole: Whole = field(default_factory=Whole, compare=False, repr=False)
    rules: Rules = field(default_factory=lambda: RULES, compare=False, repr=False)
    device: Device | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise UsageError(f"seed must be a whole number from 0 up, got {self.seed!r}", fix="seed=0")
        if not isinstance(self.heads, bool):
            raise UsageError(f"heads takes True or False, got {self.heads!r}", fix="heads=True")
        check_criterion(self.criterion)
        self.wanted()

    def wanted(self) -> Wanted:
        """The options that selection reads.

        Raises:
            UsageError: one of them is out of range.
        """
        share = 1.0 if isinstance(self.latency, str) and milliseconds(self.latency) else self.latency
        budget = {"macs": self.macs, "params": self.params, "latency": share}
        return Wanted(
            ratio=self.ratio,
            budget={what: most for what, most in budget.items() if most is not None},  # type: ignore[misc]
            ranking=self.ranking,
            align=self.align,
            layers=dict(self.layers),
            protect=self.protect,
            whole=self.whole,
            device=self.device,
        )

    def plan(self, structure: Structure) -> Plan:
        """What would go.

        Raises:
            UsageError: an unknown criterion or pattern, a budget that cannot be reached, or everything is protected.
        """
        scores = Importance(structure, self.criterion, self.seed, self.gradients).scores()
        return plan_of(structure, scores, select(structure, scores, self.as_share(structure).wanted()))

    def as_share(self, structure: Structure) -> PruneChannels:
        """The same with a time in milliseconds as a share of what the program takes."""
        if not isinstance(self.latency, str) or self.device is None:
            return self
        now = self.whole.costs.get("latency") or latency_of(structure.program, self.device)
        return replace(self, latency=min(1.0, milliseconds(self.latency) / 1e3 / now))

    def apply(self, program: Program) -> PassResult:
        """Plan and cut."""
        structure = structure_of(program, heads=self.heads, rules=self.rules)
        plan = self.plan(structure)
        notes = notes_of(plan, self.name)
        keep = plan.keep(structure)
        if keep.all():
            return PassResult(program, modified=False, notes=notes)
        smaller = cut_program(structure, keep, self.name)
        if self.latency is not None and self.device is not None:
            notes = (*notes, latency_note(program, smaller, self.device, self.name))
        return PassResult(smaller, modified=True, notes=notes)
