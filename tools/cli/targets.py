"""``fxc targets``: what can be compiled for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fxc.compiler.target import Target
from fxc.tools.cli import options as o
from fxc.tools.cli.output import Result, columns


def targets_command(as_json: o.Json = False, debug: o.Debug = False) -> Result:
    """List the targets."""
    import fxc

    known = fxc.targets()
    rows = [(t.name, t.device, t.precision, t.format, t.host, t.toolchain) for t in known]
    table = columns(rows, ("target", "device", "precision", "format", "on this host", "toolchain"))
    notes = [f"{t.name}: {t.notes}" for t in known if t.notes]
    return Result({"targets": [row(t) for t in known]}, "\n".join([table, *([""] if notes else []), *notes]))


def row(target: Target) -> dict[str, Any]:
    """A target as plain data; of its scheme only the name."""
    scheme = target.scheme.name if target.scheme is not None else None
    return {**asdict(target), "scheme": scheme, "quantized": target.quantized}
