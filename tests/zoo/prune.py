"""Prune every model of the zoo, one process each, and rewrite ``tests/zoo/prune.md``: ``make zoo-prune``.

Results are kept by model and by the version of the code in ``build/zoo-prune``: a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.models.zoo import CLASSIFIERS, GIANTS, SEGMENTERS
from tests.zoo import capped
from tests.zoo.store import Result, Store, code_version
from tests.zoo.sweep import ONE_THREAD

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "build" / "zoo-prune"
PAGE = HERE / "prune.md"
EVERY = (*CLASSIFIERS, *SEGMENTERS, "yolo")
CAPS = capped.Caps(seconds=1200, gigabytes=24)
BAR_32, BAR_64 = 1e-4, 1e-10


def main(arguments: Sequence[str]) -> int:
    """Measure what has no result yet and write the page; 1 if a model failed or misses a bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="models; by default all but the four giants")
    parser.add_argument(
        "--any-version", action="store_true", help="take results of other versions of the code"
    )
    parser.add_argument("--table", action="store_true", help="write the page from what is stored")
    options = parser.parse_args(arguments)
    store = Store(RESULTS, version())
    names = tuple(options.names) or tuple(name for name in EVERY if name not in GIANTS)
    if not options.table:
        for name in names:
            if not store.finished(name, any_version=options.any_version):
                store.put(measured(name, store.version))
    found = [result for name in EVERY if (result := store.get(name, any_version=options.any_version))]
    PAGE.write_text(render(found), encoding="utf-8")
    return 0 if all(map(good, found)) else 1


def version() -> str:
    """Of everything that a row depends on."""
    own = b"".join(
        (HERE.parent / path).read_bytes()
        for path in ("zoo/prune_one.py", "passes/prune/masked.py", "passes/prune/cases.py")
    )
    return hashlib.sha256(code_version().encode() + own).hexdigest()[:12]


def measured(name: str, code: str) -> Result:
    """One model in a process of its own; whatever happens to it becomes a result."""
    start = time.monotonic()
    command = [sys.executable, "-m", "tests.zoo.prune_one", name]
    outcome = capped.run(command, CAPS, dict.fromkeys(ONE_THREAD, "1"))
    row = json.loads(outcome.output.splitlines()[-1]) if not outcome.reason else None
    print(f"{name}: {outcome.reason or 'measured'}, {time.monotonic() - start:.0f} s", flush=True)
    return Result(name, code, outcome.reason, row, outcome.seconds, outcome.peak_gb, outcome.cpu_seconds)


def good(result: Result) -> bool:
    """Whether a model meets the bars of equality."""
    return result.row is not None and max(result.row["float32"]) <= BAR_32 and result.row["float64"] <= BAR_64


def render(results: Sequence[Result]) -> str:
    """The page."""
    missing = [name for name in EVERY if name not in {result.name for result in results}]
    return "\n".join(
        [
            "# Pruning over the zoo",
            "",
            f"`make zoo-prune`: {sum(map(good, results))} of {len(results)} models meet the bars. Each is pruned to 70 % and to half of",
            "its channels by random importance and compared with the original whose removed channels are at zero: the larger of",
            "the relative 2-norm and the relative maximum, on livened weights and small images. A group is one set of channels that",
            "can only shrink together; those that make the model's output stay. MACs are what is left at half of the channels (L2).",
            "Seconds are processor time of one thread, for the plan (analysis, scores, selection) and for the cut.",
            "",
            "| model | groups | shrunk | statistics change | MACs | 0.3 fp32 | 0.5 fp32 | 0.5 fp64 | plan s | cut s | left, and why |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *map(_line, results),
            *(["", f"Not measured: {', '.join(missing)}."] if missing else []),
            "",
        ]
    )


def _line(result: Result) -> str:
    row = result.row
    if row is None:
        return f"| {result.name} | {result.reason} |" + " |" * 9
    left = "; ".join(f"{count}: {reason}" for reason, count in row["left"].items()) or "none"
    cells: Iterable[object] = (
        result.name, row["groups"], row["shrunk"], row["statistics"] or "", f"{row['macs']:.3f}",
        *(f"{error:.1e}" for error in (*row["float32"], row["float64"])),
        f"{row['plan_seconds']:.2f}", f"{row['cut_seconds']:.2f}", left,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
