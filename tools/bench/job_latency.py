"""In two children: the files (with torch), then their timing in a process that never loads torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fxc.compiler.errors import FxcError, ToolchainError
from fxc.tools.bench.figures import rotated
from fxc.tools.bench.openvino_file import OpenVinoFile, default_hint
from fxc.tools.bench.plan import Plan

Call = Callable[[], object]
_WARM_UP, _PAUSE = 3, 0.05


def build(plan: Plan, folder: Path, into: str) -> dict[str, Any]:
    """Every contestant's file below ``into``: ``{contestant: {"file": path} or {"failed": reason}}``."""
    from fxc.tools.bench import contestants
    from fxc.tools.bench.subject import subject

    target = subject(plan)
    found: dict[str, Any] = {}
    for name in plan.contestants:
        try:
            built = contestants.build(name, target, Path(into) / name.replace(":", "_"), plan.options(name))
            found[name] = {"file": str(built.file)}
        except FxcError as error:
            found[name] = {"failed": error.what}
    return found


def measure(plan: Plan, folder: Path, files: str) -> dict[str, Any]:
    """Time one image through every file, the order rotated each round; the first round warms up and is dropped.

    Returns:
        By ``"<runtime> <hint>"`` and contestant, ``{"wall": […], "cpu": […]}``: milliseconds of each round, the median
        over its calls and the mean of CPU time. OpenVINO's default hint is looked up and named.
    """
    entries: dict[tuple[str, str], Call] = {}
    found: dict[str, dict[str, Any]] = {}
    for where, name, make in _runtimes(plan, json.loads(files)):
        found.setdefault(where, {})[name] = {"wall": [], "cpu": []}
        try:
            entries[where, name] = _loaded(make)
        except FxcError as error:
            found[where][name] = {"failed": error.what}
    keys = [f"{where}|{name}" for where, name in entries]
    for turn in range(plan.rounds + 1):
        for key in rotated(keys, turn):
            where, _, name = key.partition("|")
            wall, cpu = _milliseconds(entries[where, name], plan.calls)
            if turn:
                found[where][name]["wall"].append(wall)
                found[where][name]["cpu"].append(cpu)
    return found


def _loaded(make: Callable[[], Call]) -> Call:
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ToolchainError(lines[-1][:120]) from error


def hints(plan: Plan) -> tuple[str, ...]:
    """The plan's precision hints, ``default`` replaced by OpenVINO's own on this machine, each once."""
    return tuple(dict.fromkeys(default_hint() if h == "default" else h for h in plan.hints))


def _runtimes(plan: Plan, files: dict[str, Any]) -> list[tuple[str, str, Callable[[], Call]]]:
    shape = (1, 3, plan.resolution, plan.resolution)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    made: list[tuple[str, str, Callable[[], Call]]] = []
    for name, entry in files.items():
        file = Path(entry["file"])
        for hint in hints(plan):
            made.append((f"OpenVINO {hint}", name, partial(_openvino, file, x, hint, plan.threads)))
        if file.suffix == ".onnx":
            made.append(("ONNX Runtime f32", name, partial(_onnxruntime, file, x, plan.threads)))
    return made


def _openvino(file: Path, x: Any, hint: str, threads: int) -> Call:
    loaded = OpenVinoFile(file, x.shape, hint, threads)
    return lambda: loaded.run(x)


def _onnxruntime(file: Path, x: Any, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)


def _milliseconds(call: Call, calls: int) -> tuple[float, float]:
    # Another runtime's threads may still spin; they sleep after some milliseconds.
    time.sleep(_PAUSE)
    for _ in range(_WARM_UP):
        call()
    seconds = []
    cpu = time.process_time()
    for _ in range(calls):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds), 1000 * (time.process_time() - cpu) / calls
