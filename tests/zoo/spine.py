"""Measure the fourteen models at 224x224, one process each, and rewrite ``tests/zoo/spine.md``: ``make spine``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.models.zoo import NAMES
from tests.zoo import capped

TABLE = Path(__file__).with_name("spine.md")
CAPS = capped.Caps(seconds=900, gigabytes=16)
HEADER = """# Fourteen models end to end

Livened random weights, 224x224, calibrated on 32 images, judged on 16 others. *dB* is the SQNR of the outputs against
the eager float module: of the quantized graph in PyTorch, then of the emitted file in its runtime. *MACs* is the share of
conv, linear and matmul multiply-accumulates that the runtime itself reports as integer kernels. *layers* counts the
quantized tensors compared one by one in ONNX Runtime on the graph's own inputs, with the largest difference in codes and
the share of codes that differ. Random weights amplify noise: read the decibels as agreement between graph and file, not
as a trained model's accuracy. Rewritten by `make spine`.

| model | float error | cpu-int8 dB graph / file | MACs | ort-int8 dB graph / file | MACs | size | layers | worst | differ |
|---|---|---|---|---|---|---|---|---|---|
"""


def main(arguments: list[str]) -> int:
    """Measure the named models, or all; without arguments the table is rewritten."""
    lines, failed = [], []
    for name in arguments or NAMES:
        line = _line(name)
        print(line, flush=True)
        lines.append(line)
        if "failed" in line:
            failed.append(name)
    if not arguments:
        TABLE.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _line(name: str) -> str:
    outcome = capped.run([sys.executable, "-m", "tests.zoo.one", name, "--resolution", "224"], CAPS)
    if outcome.reason:
        return f"| {name} | failed: {outcome.reason} |||||||||"
    row = json.loads(outcome.output.splitlines()[-1])
    ov, ort = row["targets"]["cpu-int8"], row["targets"]["ort-int8"]
    return (
        f"| {name} | {max(row['error_l2'], row['error_max']):.1e} "
        f"| {ov['graph_db']:.2f} / {ov['file_db']:.2f} | {ov['coverage']:.2%} "
        f"| {ort['graph_db']:.2f} / {ort['file_db']:.2f} | {ort['coverage']:.2%} | {ov['ratio']:.3f} "
        f"| {row['layers']} | {row['worst']} | {row['flips']:.1e} |"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
