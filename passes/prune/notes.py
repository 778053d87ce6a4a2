"""What pruning has to say in the report."""

from __future__ import annotations

from fxc.compiler.program import Note
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
