"""Measure every model of the zoo, one process each, and rewrite ``tests/zoo/zoo.md``: ``make zoo``.

Results are kept by model and by the version of the code in ``build/zoo``: a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.models.zoo import EVERY, GIANTS
from tests.zoo import capped, table
from tests.zoo.store import Result, Store, code_version

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "build" / "zoo"
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Plan:
    """How a sweep is run.

    Attributes:
        workers: models measured at the same time.
        threads: of torch in each.
        caps: of each model's process.
        pin: give each worker a processor core of its own, so that the runtimes' thread pools do not get in its way.
        any_version: take results of other versions of the code as they are.
    """

    names: tuple[str, ...]
    workers: int
    threads: int
    caps: capped.Caps
    pin: bool = False
    any_version: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the sweep that the arguments ask for; 1 if a model failed."""
    options = _options(arguments)
    everything = GIANTS if options.big else tuple(name for name in EVERY if name not in GIANTS)
    plan = _plan(options, tuple(options.names) or everything)
    store = Store(options.results, code_version())
    if options.fresh:
        store.clear(plan.names)
    if not options.table:
        before = signal.signal(signal.SIGTERM, _terminated)
        try:
            sweep(plan, store)
        finally:
            signal.signal(signal.SIGTERM, before)
    page = HERE / ("zoo-big.md" if options.big else "zoo.md")
    results = write(page, store, everything, plan)
    return 1 if any(result.reason for result in results) else 0


def _terminated(number: int, frame: object) -> None:
    """Leave as at an interrupt: the models' processes are in sessions of their own, and would outlive this one."""
    raise SystemExit(128 + number)


def sweep(plan: Plan, store: Store) -> None:
    """Measure what has no result yet, and store each result as it comes."""
    todo = [name for name in plan.names if not store.finished(name, any_version=plan.any_version)]
    print(f"{len(todo)} of {len(plan.names)} models to measure, code {store.version}", flush=True)
    slots = Slots(plan)
    start = time.monotonic()
    with ThreadPoolExecutor(plan.workers) as pool:
        waiting = [pool.submit(measured, name, plan, slots, store.version) for name in todo]
        try:
            for count, future in enumerate(as_completed(waiting), 1):
                store.put(future.result())
                spent = time.monotonic() - start
                print(f"[{count}/{len(todo)} {spent:.0f} s] {table.line(future.result())}", flush=True)
        except BaseException:
            # Or the workers would go on to their models' ends before this process could leave.
            slots.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def measured(name: str, plan: Plan, slots: Slots, version: str) -> Result:
    """One model in a process of its own; whatever happens to it becomes a result."""
    with slots.taken() as core:
        command = [sys.executable, "-m", "tests.zoo.one", name]
        if plan.pin:
            command += ["--core", str(core)]
        threads = dict.fromkeys(ONE_THREAD, str(plan.threads))
        outcome = capped.run(command, plan.caps, threads, slots.stop)
    reason, row = outcome.reason, None
    if not reason:
        try:
            row = json.loads(outcome.output.splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            reason = "no row came back"
    return Result(name, version, reason, row, outcome.seconds, outcome.peak_gb, outcome.cpu_seconds)


def write(page: Path, store: Store, names: Sequence[str], plan: Plan) -> list[Result]:
    """Write the page from what is stored, of this version of the code or, where the plan says so, of any."""
    found = {name: store.get(name, any_version=plan.any_version) for name in names}
    results = [result for result in found.values() if result is not None]
    missing = [name for name, result in found.items() if result is None]
    big = page.stem == "zoo-big"
    title = "Models over 300 million parameters" if big else "The zoo end to end"
    command = "make zoo-big" if big else "make zoo"
    page.write_text(table.render(title, results, missing, command, _facts(results)), encoding="utf-8")
    return results


def _facts(results: Sequence[Result]) -> list[str]:
    if not results:
        return []
    versions = sorted({result.version for result in results})
    minutes, cpu = (sum(getattr(r, what) for r in results) / 60 for what in ("seconds", "cpu_seconds"))
    slowest = max(results, key=lambda result: result.seconds)
    largest = max(results, key=lambda result: result.peak_gb)
    return [
        f"{len(results)} processes took {minutes:.0f} minutes one after the other and {cpu:.0f} minutes of processor time;\n"
        f"the longest {slowest.seconds:.0f} s ({slowest.name}), the largest {largest.peak_gb:.1f} GB ({largest.name}). "
        f"Code {', '.join(versions)}."
    ]


class Slots:
    """Which processor core is free for a worker, and whether all of them are to stop."""

    def __init__(self, plan: Plan):
        self.stop = threading.Event()
        cores = psutil.Process().cpu_affinity() if plan.pin else list(range(plan.workers))
        self._free: queue.Queue[int] = queue.Queue()
        for slot in range(plan.workers):
            self._free.put(cores[slot % len(cores)])

    @contextmanager
    def taken(self) -> Iterator[int]:
        """Hold one for as long as the block runs."""
        core = self._free.get()
        try:
            yield core
        finally:
            self._free.put(core)


def _plan(options: argparse.Namespace, names: tuple[str, ...]) -> Plan:
    total = psutil.virtual_memory().total / 1e9
    # A giant has the machine to itself; the others share it.
    workers = options.workers or (1 if options.big else max(1, min(os.cpu_count() or 1, int(total // 8))))
    gigabytes = options.gigabytes or 0.85 * total / workers
    seconds = options.seconds or (3600 if options.big else 900)
    caps = capped.Caps(seconds, gigabytes)
    pin = workers > 1 and hasattr(os, "sched_setaffinity") and not options.no_pin
    return Plan(names, workers, options.threads, caps, pin, options.any_version)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.sweep", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these models; the table shows all that are stored")
    parser.add_argument("--big", action="store_true", help="the models over 300 million parameters instead")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results first")
    parser.add_argument(
        "--any-version", action="store_true", help="keep results of other versions of the code"
    )
    parser.add_argument("--table", action="store_true", help="only write the table from what is stored")
    parser.add_argument("--workers", type=int, help="models at a time; by default one per core and 8 GB")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each worker")
    parser.add_argument("--no-pin", action="store_true", help="let the workers share all cores")
    parser.add_argument("--seconds", type=float, help="time cap of one model; 900, or 3600 for --big")
    parser.add_argument("--gigabytes", type=float, help="memory cap of one model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
