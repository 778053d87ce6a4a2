"""What pruning has to say in the report."""

from __future__ import annotations

from fxc.compiler.program import Note, Program
from fxc.passes.prune.cost import Device, latency_of
from fxc.passes.prune.plan import Plan


def notes_of(plan: Plan, by: str) -> tuple[Note, ...]:
    """What kept its width and why, and which statistics change; ``by`` names the pass."""
    kept = (
        Note("info", f"keeps every channel: {'; '.join(reasons)}", name.partition("#")[0], by)
        for name, reasons in plan.fixed.items()
    )
    changed = (
        Note("info", f"fewer channels change a statistic: {'; '.join(g.changes_statistics)}", g.layers[0], by)
        for g in plan.groups
        if len(g.kept) < g.units and g.changes_statistics
    )
    return (*kept, *changed)


def latency_note(before: Program, after: Program, device: Device, by: str) -> Note:
    """What a model of a device makes of both programs."""
    old, new = (1e3 * latency_of(program, device) for program in (before, after))
    text = (
        f"latency {old:.3g} -> {new:.3g} ms by a model of {device.name}, not measured: {device.speed.source}"
    )
    return Note("info", text, None, by)
