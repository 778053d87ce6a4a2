"""Measure one model in this process and print the row as JSON on the last line: ``python -m tests.zoo.one resnet18``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict


def main(arguments: list[str]) -> int:
    """Measure; a failure ends as a traceback and an exit code, like that of any command."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.one", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--resolution", type=int, help="image side; by default the model's own")
    parser.add_argument("--core", type=int, help="run on this processor core only")
    options = parser.parse_args(arguments)
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        # Before torch and the runtimes count their processors.
        os.sched_setaffinity(0, {options.core})
    from tests.conformance.spine import measure

    print(json.dumps(asdict(measure(options.name, options.resolution))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
