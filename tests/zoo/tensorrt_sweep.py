"""Emit every classifier for TensorRT, one process each, and rewrite ``tests/zoo/tensorrt.md``: ``make zoo-tensorrt``.

Results are kept by model and by the version of the code in ``build/zoo-tensorrt``: a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import psutil

from tests.models.zoo import CLASSIFIERS, GIANTS, native_resolution
from tests.zoo import capped, tensorrt_table
from tests.zoo.store import Result, Store, code_version
from tests.zoo.sweep import ONE_THREAD, Plan, Slots

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "build" / "zoo-tensorrt"
PAGE = HERE / "tensorrt.md"
_SECONDS, _BIG_SECONDS = 900, 3600


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments ask for; 1 if a model failed."""
    options = _options(arguments)
    names = tuple(options.names) or tuple(n for n in CLASSIFIERS if (n in GIANTS) == options.big)
    store = Store(options.results, version())
    if options.fresh:
        store.clear(names)
    if not options.table:
        before = signal.signal(signal.SIGTERM, _terminated)
        try:
            sweep(_plan(options, names), store, native=options.native)
        finally:
            signal.signal(signal.SIGTERM, before)
    found = {name: store.get(name, any_version=options.any_version) for name in CLASSIFIERS}
    results = [result for result in found.values() if result is not None]
    missing = [name for name, result in found.items() if result is None]
    options.page.write_text(tensorrt_table.render(results, missing), encoding="utf-8")
    return 1 if any(result.reason for result in results) else 0


def version() -> str:
    """Of everything that a row depends on."""
    own = (HERE / "tensorrt_one.py").read_bytes()
    return hashlib.sha256(code_version().encode() + own).hexdigest()[:12]


def sweep(plan: Plan, store: Store, *, native: bool = False) -> None:
    """Measure what has no result yet, and store each result as it comes."""
    todo = [name for name in plan.names if not store.finished(name, any_version=plan.any_version)]
    print(f"{len(todo)} of {len(plan.names)} models to emit, code {store.version}", flush=True)
    slots, start = Slots(plan), time.monotonic()
    with ThreadPoolExecutor(plan.workers) as pool:
        waiting = [pool.submit(measured, name, plan, slots, store.version, native=native) for name in todo]
        try:
            for count, future in enumerate(as_completed(waiting), 1):
                store.put(future.result())
                line = tensorrt_table.line(future.result())
                print(f"[{count}/{len(todo)} {time.monotonic() - start:.0f} s] {line}", flush=True)
        except BaseException:
            # Or the workers would go on to their models' ends before this process could leave.
            slots.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def measured(name: str, plan: Plan, slots: Slots, code: str, *, native: bool) -> Result:
    """One model in a process of its own; whatever happens to it becomes a result."""
    with slots.taken() as core:
        command = [sys.executable, "-m", "tests.zoo.tensorrt_one", name]
        command += ["--resolution", str(native_resolution(name))] if native else []
        command += ["--core", str(core)] if plan.pin else []
        threads = dict.fromkeys(ONE_THREAD, str(plan.threads))
        outcome = capped.run(command, plan.caps, threads, slots.stop)
    reason, row = outcome.reason, None
    if not reason:
        try:
            row = json.loads(outcome.output.splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            reason = "no row came back"
    return Result(name, code, reason, row, outcome.seconds, outcome.peak_gb, outcome.cpu_seconds)


def _plan(options: argparse.Namespace, names: tuple[str, ...]) -> Plan:
    total = psutil.virtual_memory().total / 1e9
    # A giant has the machine to itself; the others share it.
    workers = options.workers or (1 if options.big else max(1, min(os.cpu_count() or 1, int(total // 8))))
    seconds = options.seconds or (_BIG_SECONDS if options.big else _SECONDS)
    caps = capped.Caps(seconds, options.gigabytes or 0.85 * total / workers)
    pin = workers > 1 and hasattr(os, "sched_setaffinity")
    return Plan(names, workers, 1, caps, pin, options.any_version)


def _terminated(number: int, frame: object) -> None:
    """Leave as at an interrupt: the models' processes are in sessions of their own, and would outlive this one."""
    raise SystemExit(128 + number)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.tensorrt_sweep", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these models; the table shows all that are stored")
    parser.add_argument("--big", action="store_true", help="the models over 300 million parameters instead")
    parser.add_argument("--native", action="store_true", help="at the models' own resolution")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results first")
    parser.add_argument(
        "--any-version", action="store_true", help="keep results of other versions of the code"
    )
    parser.add_argument("--table", action="store_true", help="only write the table from what is stored")
    parser.add_argument("--workers", type=int, help="models at a time; by default one per core and 8 GB")
    parser.add_argument("--seconds", type=float, help="time cap of one model; 900, or 3600 for --big")
    parser.add_argument("--gigabytes", type=float, help="memory cap of one model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--page", type=Path, default=PAGE, help="the table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
