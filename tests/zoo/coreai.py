"""The fourteen models in eight bits through Apple's Core AI runtime: ``make zoo-coreai``.

With model names, those alone are measured and printed. Rows are kept under ``build/coreai`` with the version of the code, so
that a run that was stopped goes on; ``--any-version`` takes those of other versions too, ``--afresh`` forgets all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import fxc
from tests.models import zoo
from tests.models.images import images
from tests.models.metrics import sqnr_db
from tests.zoo import capped, store

TABLE = Path(__file__).with_name("coreai.md")
KEPT = Path("build/coreai")
CAPS = capped.Caps(seconds=1800, gigabytes=12)
CALIBRATION, JUDGED = 16, 4
LOST_BAR, SIZE_BAR = 1.0, 0.30

HEADER = """# Core AI: fourteen models in eight bits, in Apple's runtime

`coreai-int8`: livened random weights at each model's smallest useful resolution, calibrated on 16 images, judged on 4 others.
*dB* is the SQNR of the worst output against the eager float module: of the quantized graph in PyTorch, and of the `.aimodel`
read back from disk and executed by Apple's Core AI runtime, whose floats between the codes are float16. *graph and file* is the
SQNR of the file against the graph. *products* is the share of multiply-accumulates of convolutions and linear layers that stand
between dequantize and quantize in the saved program; attention's own products stay in float on purpose and are not among
them. *size* is over the float weights. Bar: at most 1 dB below the graph. Rewritten by `make zoo-coreai`.

| model | pixels | graph | file | graph and file | products | size |
|---|---|---|---|---|---|---|
"""


def main(arguments: list[str]) -> int:
    """Measure the named models, or all; without names the table is rewritten."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(arguments[1])))
        return 0
    if "--afresh" in arguments:
        for row in KEPT.glob("*.json"):
            row.unlink()
    names = [a for a in arguments if not a.startswith("--")]
    lines = [_line(name, "--any-version" in arguments) for name in names or zoo.NAMES]
    if not names:
        TABLE.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return int(any("failed" in line or "**" in line for line in lines))


def _line(name: str, any_version: bool) -> str:
    row = _row(name, any_version)
    line = f"| {name} | failed: {row['failed']} ||||||" if "failed" in row else _cells(name, row)
    print(line, flush=True)
    return line


def _row(name: str, any_version: bool) -> dict[str, Any]:
    kept, version = KEPT / f"{name}.json", store.code_version()
    row = dict(json.loads(kept.read_text())) if kept.is_file() else {}
    if row and (any_version or row["version"] == version):
        return row
    outcome = capped.run([sys.executable, "-m", "tests.zoo.coreai", "--one", name], CAPS)
    if outcome.reason:
        return {"failed": outcome.reason}
    row = {**json.loads(outcome.output.splitlines()[-1]), "version": version}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(row))
    return row


def _cells(name: str, row: dict[str, Any]) -> str:
    file = f"{row['file']:.2f}" if row["file"] >= row["graph"] - LOST_BAR else f"**{row['file']:.2f}**"
    return (
        f"| {name} | {row['size']} | {row['graph']:.2f} | {file} | {row['apart']:.1f} "
        f"| {row['share']:.1%} | {row['ratio']:.3f} |"
    )


def measure(name: str) -> dict[str, Any]:
    """Decibels of the quantized graph and of the saved program in Apple's runtime, and what of it is in eight bits."""
    size = zoo.small_resolution(name)
    model, _ = zoo.build(name, resolution=size)
    data = images(CALIBRATION + JUDGED, size, seed=1)
    calibration, judged = data[:CALIBRATION], data[CALIBRATION:]
    artifact = fxc.compile(
        model, "coreai-int8", example_inputs=(data[:1],), calibration_data=calibration.split(8)
    )
    with torch.no_grad():
        want = [y for y in pytree.tree_leaves(model(judged)) if isinstance(y, Tensor)]
    graph, file = artifact.program.run_flat(judged), artifact.runner()([judged.numpy()])
    return {
        "size": size,
        "graph": _worst(want, graph),
        "file": _worst(want, file),
        "apart": _worst(graph, file),
        "share": share(artifact),
        "ratio": artifact.report["size"]["ratio"],
    }


def share(artifact: fxc.Artifact) -> float:
    """Of the multiply-accumulates of layers with weights, those in eight bits in the saved program."""
    placed = {k.layer for k in artifact.runner().kernels() if k.integer}
    tensors = artifact.manifest["tensors"]
    layers = [row for row in artifact.report["layers"] if row["op"].startswith(("conv", "linear"))]
    done = sum(row["macs"] for row in layers if tensors.get(row["layer"]) in placed)
    return done / max(sum(row["macs"] for row in layers), 1)


def _worst(want: Sequence[Tensor], found: Sequence[Tensor | np.ndarray[Any, Any]]) -> float:
    return min(sqnr_db(a, torch.as_tensor(b)) for a, b in zip(want, found, strict=True))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
