"""Thousands of random models: ``python -m tests.random.sweep --examples 10000 --seed 0`` rewrites tests/zoo/random.md.

Example ``i`` of a seed is always the same model. The work is done in chunks, each in a process of its own with a time
limit; what a process had finished is kept in ``build/random``, by version of the code, so a sweep that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.random import page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "random"
PAGE = ROOT / "tests" / "zoo" / "random.md"
CHUNK = 50
SECONDS_EACH = 20.0
"""Time limit per example, twenty times what one takes on a busy machine."""
REDUCED = 2
"""Failures of a chunk that are made small; the others are printed as they are."""


@dataclass(frozen=True)
class Plan:
    """What to run: examples ``first`` to ``first + examples`` of a seed, by the module whose ``--chunk`` runs some."""

    examples: int
    seed: int
    first: int
    processes: int
    folder: Path
    module: str = "tests.random.sweep"


def main(arguments: Sequence[str]) -> int:
    """Run what is missing and write the page; 1 if a promise did not hold."""
    options = _options(arguments)
    if options.chunk is not None:
        return _chunk(options.seed, *options.chunk)
    if options.one is not None:
        return _one(options.seed, options.one)
    folder = options.results / f"{options.seed}-{version()}"
    plan = Plan(options.examples, options.seed, options.first, options.processes, folder)
    run(plan)
    hundreds = [] if options.without_tests else _hundreds(plan)
    summary = page.gather(plan.folder, plan.first, plan.examples)
    text = page.render(summary, plan.examples, plan.seed, folder.name, hundreds)
    print(text)
    if not options.no_page:
        PAGE.write_text(text, encoding="utf-8")
    print(page.verdict(summary, plan.examples), file=sys.stderr, flush=True)
    return 1 if summary.failures or summary.models < plan.examples else 0


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.random.sweep", description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first example")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--no-page", action="store_true", help="leave tests/zoo/random.md alone")
    parser.add_argument(
        "--without-tests", action="store_true", help="do not list the operators of make test's models"
    )
    parser.add_argument("--one", type=int, help="run one example, make it small if it fails, and print it")
    parser.add_argument("--chunk", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def version() -> str:
    """Of fxc, of the runtimes, and of what makes and judges the models."""
    from tests.zoo.store import code_version

    digest = hashlib.sha256(code_version().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("test_"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run(plan: Plan) -> None:
    """Every chunk that is not finished."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    starts = range(plan.first, plan.first + plan.examples, CHUNK)
    begin, broken = time.monotonic(), []

    def finish(start: int) -> None:
        last = min(start + CHUNK, plan.first + plan.examples)
        _finish(plan, start, last)
        broken.extend(page.broken(_chunk_path(plan, start)))
        seconds = f"{time.monotonic() - begin:.0f} s"
        print(f"[{seconds}] {start} to {last}: {len(broken)} broken so far", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(plan.processes) as pool:
        list(pool.map(finish, starts))


def _finish(plan: Plan, start: int, last: int) -> None:
    """Run a chunk; an example that kills its process, or takes too long, is a failure, and the rest goes on."""
    path = _chunk_path(plan, start)
    while (at := start + _done(path)) < last:
        began = _done(path)
        reason = _process(plan, path, at, last - at)
        finished = _done(path)
        if start + finished < last and (reason or finished == began):
            line = {
                "index": start + finished,
                "stage": "process",
                "fault": False,
                "error": reason or "ended without a word",
            }
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def _chunk_path(plan: Plan, start: int) -> Path:
    return plan.folder / f"{start:06d}.jsonl"


def _process(plan: Plan, path: Path, first: int, count: int) -> str | None:
    """Why the process ended before its time, or ``None``."""
    command = [
        sys.executable, "-m", plan.module, "--seed", str(plan.seed), "--chunk", str(first), str(count),
    ]  # fmt: skip
    env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    with path.open("ab") as file:
        try:
            done = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.PIPE,
                timeout=60 + SECONDS_EACH * count,
                env=env,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired:
            return "time limit"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return None if done.returncode == 0 else f"exit status {done.returncode}: {''.join(last)}"


def _done(path: Path) -> int:
    """Finished examples; half a line at the end, from a process that was killed, is taken away."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        path.write_bytes(whole)
    return whole.count(b"\n")


def _hundreds(plan: Plan) -> list[str]:
    """The operators in the models of ``make test``."""
    path = plan.folder / "hundreds.json"
    if not path.exists():
        from tests.random.hundreds import PARTS, run_part

        found = sorted({name for part in range(PARTS) for name in run_part(part).operators})
        path.write_text(json.dumps(found), encoding="utf-8")
    return list(json.loads(path.read_text(encoding="utf-8")))


def _chunk(seed: int, first: int, count: int) -> int:
    """In the process of a chunk: one line of JSON per example."""
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    failures = 0
    for index in range(first, first + count):
        line = _example(seed, index, reduce=failures < REDUCED)
        failures += "error" in line
        print(json.dumps(line), flush=True)
    return 0


def _example(seed: int, index: int, *, reduce: bool) -> dict[str, Any]:
    from tests.random.build import random_spec
    from tests.random.check import Broken, Record, RuntimeFault, check
    from tests.random.choices import Choices

    spec, record = random_spec(Choices(f"{seed}/{index}")), Record()
    line: dict[str, Any] = {"index": index, "steps": [step.op for step in spec.steps]}
    try:
        check(spec, record)
    except Broken as error:
        small = _reduced(spec, error.stage) if reduce else spec
        fault = isinstance(error, RuntimeFault)
        line |= {"stage": error.stage, "fault": fault, "error": str(error)[:600], "spec": small.text()}
    return {**line, **record.as_json()}


def _reduced(spec: Any, stage: str) -> Any:
    from tests.random.check import fails_at
    from tests.random.reduce import reduced

    return reduced(spec, fails_at(stage))


def _one(seed: int, index: int) -> int:
    warnings.filterwarnings("ignore")
    line = _example(seed, index, reduce=True)
    print(line.get("error", "every promise held"))
    print(line.get("spec", " ".join(line["steps"])))
    return 1 if "error" in line else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
