"""In a child: the highest resident memory of one path from a model to a file."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import psutil

from fxc.tools.bench.contestants import build
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.subject import subject

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(plan: Plan, folder: Path, contestant: str) -> dict[str, Any]:
    """Bytes: ``weights`` in float32, ``before`` (resident with the model and the images), ``peak`` of the whole process."""
    target = subject(plan)
    gc.collect()
    reset = _reset_peak()
    before = resident("VmRSS")
    build(contestant, target, folder, plan.options(contestant))
    return {
        "weights": target.weight_bytes,
        "before": before,
        "peak": resident("VmHWM"),
        "whole": not reset,
    }


def _reset_peak() -> bool:
    """Forget what making the model took (Linux: proc(5), clear_refs). Returns whether the system can."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def resident(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process in bytes, the former everywhere else than on Linux."""
    if not _STATUS.is_file():
        return int(psutil.Process().memory_info().rss)
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
