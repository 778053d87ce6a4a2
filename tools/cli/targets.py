"""``fxc targets``: what can be compiled for."""

from __future__ import annotations

from fxc.tools.cli import options as o
from fxc.tools.cli.listing import listing
from fxc.tools.cli.output import Result


def targets_command(as_json: o.Json = False, debug: o.Debug = False) -> Result:
    """List the targets."""
    return listing()
