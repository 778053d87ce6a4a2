"""Peak memory of running one model file, measured in a process of its own: ``python -m fxc.tools.demo.probe``.

Prints one JSON object: ``runtime`` is resident memory with the runtime imported and no model, ``peak`` the highest it
ever was, both in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil

from fxc import catalogue

_RUNS = 20


def peak_memory(
    model: Path, target: str, shape: tuple[int, ...], precision: str, threads: int
) -> dict[str, int]:
    """Bytes that a fresh process takes to load ``model`` and run it on zeros of ``shape``."""
    arguments = [str(model), target, json.dumps(shape), precision, str(threads)]
    command = [sys.executable, "-m", "fxc.tools.demo.probe", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    return {"runtime": int(found["runtime"]), "peak": int(found["peak"])}


def _resident(field: str) -> int:
    # ru_maxrss survives exec and would report the parent's peak; VmHWM belongs to this program alone.
    status = Path("/proc/self/status")
    if not status.is_file():
        return int(psutil.Process().memory_info().rss)
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _main(model: str, target: str, shape: str, precision: str, threads: str) -> None:
    found = catalogue.target(target)
    catalogue.resolve(f"{catalogue.ROOMS[found.backend]}.run:load")
    catalogue.resolve(f"{found.toolchain}:__version__")
    before = _resident("VmRSS")
    runner = catalogue.room(found).load(Path(model), found, precision=precision, threads=int(threads))
    image = np.zeros(json.loads(shape), np.float32)
    for _ in range(_RUNS):
        runner([image])
    print(json.dumps({"runtime": before, "peak": _resident("VmHWM")}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
