"""Thousands of random models, pruned: ``python -m tests.passes.prune.sweep --examples 1000``.

Example ``i`` of a seed is always the same model. What was finished is kept in ``build/random-prune``, by version of the code,
so a sweep that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.random import page
from tests.random.sweep import ROOT, Plan, run, version

RESULTS = ROOT / "build" / "random-prune"
MODULE = "tests.passes.prune.sweep"
OWN = ("random_nets.py", "cases.py", "masked.py", "zeroed.py")


def main(arguments: Sequence[str]) -> int:
    """Run what is missing and print what it came to; 1 if a promise did not hold."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first example")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", type=int, help="run one example, make it small if it fails, and print it")
    parser.add_argument("--chunk", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.chunk is not None:
        return _chunk(options.seed, *options.chunk)
    if options.one is not None:
        line = _example(options.seed, options.one)
        print(line.get("error", "every promise held"), line.get("spec", ""), sep="\n")
        return 1 if "error" in line else 0
    folder = options.results / f"{options.seed}-{_version()}"
    run(Plan(options.examples, options.seed, options.first, options.processes, folder, MODULE))
    return _told(page.gather(folder, options.first, options.examples), options.examples)


def _version() -> str:
    """Of fxc, and of what makes and judges the models."""
    own = b"".join(Path(__file__).with_name(name).read_bytes() for name in OWN)
    return hashlib.sha256(version().encode() + own).hexdigest()[:12]


def _told(found: page.Summary, wanted: int) -> int:
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    print(f"{found.models} of {wanted} models ran: {counts}")
    for line in found.failures:
        print(f"{line['index']}: {line['error']}\n{line.get('spec', '')}")
    print(f"{len(found.failures)} promises broken")
    return 1 if found.failures or found.models < wanted else 0


def _chunk(seed: int, first: int, count: int) -> int:
    """In the process of a chunk: one line of JSON per example."""
    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for index in range(first, first + count):
        print(json.dumps(_example(seed, index)), flush=True)
    return 0


def _example(seed: int, index: int) -> dict[str, Any]:
    from tests.passes.prune.random_nets import check, fails_at
    from tests.random.build import random_spec
    from tests.random.check import Broken
    from tests.random.choices import Choices
    from tests.random.reduce import reduced

    spec, counts = random_spec(Choices(f"{seed}/{index}")), Counter[str]()
    line: dict[str, Any] = {"index": index, "steps": [step.op for step in spec.steps]}
    try:
        check(spec, counts)
    except Broken as error:
        small = reduced(spec, fails_at(error.stage))
        line |= {"stage": error.stage, "fault": False, "error": str(error)[:600], "spec": small.text()}
    return {**line, "counts": counts}


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
