"""The table of targets, made without torch and without the CLI library."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fxc.compiler.target import Target
from fxc.tools.cli.output import Result, columns, warn


def listing() -> Result:
    """Every target of the catalogue; an installed extension that cannot be used is a warning."""
    from fxc.catalogue import INSTALLED

    for text in INSTALLED.unlisted:
        warn(text)
    known = INSTALLED.targets()
    rows = [(t.name, t.device, t.precision, t.format, t.host, t.toolchain) for t in known]
    table = columns(rows, ("target", "device", "precision", "format", "on this host", "toolchain"))
    notes = [f"{t.name}: {t.notes}" for t in known if t.notes]
    text = "\n".join([table, *([""] if notes else []), *notes])
    return Result({"targets": [row(t) for t in known]}, text)


def row(target: Target) -> dict[str, Any]:
    """A target as plain data; of its scheme only the name."""
    scheme = target.scheme.name if target.scheme is not None else None
    return {**asdict(target), "scheme": scheme, "quantized": target.quantized}
