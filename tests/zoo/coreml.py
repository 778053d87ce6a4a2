"""Every classifier as a Core ML program, read back and evaluated: ``make zoo-coreml``.

With model names, those alone are measured and printed. With ``--resolution N`` all run at that size. Rows are kept under
``build/coreml`` for this version of the code and of coremltools, so that a run that was stopped goes on; ``--afresh`` forgets
them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxc
from fxc.backends.coreml.emit import emit
from fxc.backends.coreml.package import open_package
from fxc.backends.coreml.placement import placed
from fxc.backends.coreml.run import load
from fxc.backends.coreml.target import IPHONE_FP16, IPHONE_FP32
from fxc.compiler.capture import capture
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from tests.models import zoo
from tests.models.images import images
from tests.models.metrics import sqnr_db
from tests.zoo import capped
from tests.zoo.store import code_version

TABLE = Path(__file__).with_name("coreml.md")
KEPT = Path("build/coreml")
CAPS = capped.Caps(seconds=1800, gigabytes=12)
FLOAT_BAR, HALF_BAR, LOST_BAR, MAC_BAR, SIZE_BAR = 80.0, 40.0, 1.0, 0.95, 0.27

HEADER = """# Core ML: every classifier, saved, read back and evaluated

Livened random weights, one image. *dB* is the SQNR of the worst output against the eager float module. The saved
`.mlpackage` is read from disk and executed by fxc's evaluator; nothing of Core ML runs here. *fp32* is `iphone-fp32`;
*fp16* is `iphone-fp16`, whose weights are float16, computed in float32; *weights* is the float graph in PyTorch with its
weights rounded to float16 and nothing else: what no float16 file of these weights can be above by much. *stored* is the
same file with every result rounded to float16, and *overflow* names what left its range then. Bars: fp32 at least 80 dB, fp16
at least 40 dB. Rewritten by `make zoo-coreml`.

| model | size | fp32 | fp16 | weights | stored | overflow |
|---|---|---|---|---|---|---|
"""

INT8_HEADER = """
## In eight bits

`iphone-int8`, calibrated on 16 images, judged on 8 others: dB of the quantized graph in PyTorch and of the saved program in
the evaluator; the share of multiply-accumulates of convolutions and linear layers that stand between dequantize and quantize
in the saved program; how many sums do; size over float weights. Bars: within 1 dB of the graph, 95 % of the products (attention's
own products, which stay in float16 on purpose, are not among them), 0.27 of the size.

| model | graph | file | products | sums | size |
|---|---|---|---|---|---|
"""


def main(arguments: list[str]) -> int:
    """Measure the named models, or all; without names the table is rewritten."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(arguments[1], int(arguments[2]))))
        return 0
    if arguments[:1] == ["--int8"]:
        print(json.dumps(measure_int8(arguments[1], int(arguments[2]))))
        return 0
    size = int(arguments[arguments.index("--resolution") + 1]) if "--resolution" in arguments else 0
    names = [a for a in arguments if not a.startswith("--") and not a.isdigit()]
    if "--afresh" in arguments:
        for row in (KEPT / version()).glob("*.json"):
            row.unlink()
    floats = [_float_line(name, size) for name in names or zoo.CLASSIFIERS]
    codes = [_int8_line(name, size) for name in (names or zoo.NAMES) if name in zoo.NAMES]
    if not names:
        TABLE.write_text(
            HEADER + "\n".join(floats) + "\n" + INT8_HEADER + "\n".join(codes) + "\n", encoding="utf-8"
        )
    return int(any("failed" in line or "**" in line for line in (*floats, *codes)))


def _row(kind: str, name: str, size: int) -> dict[str, Any]:
    size = size or zoo.native_resolution(name)
    kept = KEPT / version() / f"{name}{kind}-{size}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    outcome = capped.run([sys.executable, "-m", "tests.zoo.coreml", kind, name, str(size)], CAPS)
    if outcome.reason:
        return {"failed": outcome.reason}
    row = json.loads(outcome.output.splitlines()[-1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    partial.write_text(json.dumps(row))
    partial.replace(kept)
    return dict(row)


@cache
def version() -> str:
    """Of fxc, of this file and of coremltools: what a row depends on."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:6]
    return f"{code_version()}-{own}-{importlib.metadata.version('coremltools')}"


def _float_line(name: str, size: int) -> str:
    row = _row("--one", name, size)
    line = f"| {name} | failed: {row['failed']} ||||||" if "failed" in row else _float_cells(name, row)
    print(line, flush=True)
    return line


def _float_cells(name: str, row: dict[str, Any]) -> str:
    overflow = ", ".join(f"{where} ({count})" for where, count in row["overflow"].items())
    cells = [
        _bold(row["fp32"], FLOAT_BAR),
        _bold(row["fp16"], HALF_BAR),
        f"{row['weights']:.1f}",
        f"{row['stored']:.1f}",
    ]
    return f"| {name} | {row['size']} | {' | '.join(cells)} | {overflow} |"


def _bold(value: float, bar: float) -> str:
    return f"{value:.1f}" if value >= bar else f"**{value:.1f}**"


def _int8_line(name: str, size: int) -> str:
    row = _row("--int8", name, size)
    line = f"| {name} | failed: {row['failed']} |||||" if "failed" in row else _int8_cells(name, row)
    print(line, flush=True)
    return line


def _int8_cells(name: str, row: dict[str, Any]) -> str:
    file = _bold(row["file"], row["graph"] - LOST_BAR)
    size = f"{row['ratio']:.3f}" if row["ratio"] <= SIZE_BAR else f"**{row['ratio']:.3f}**"
    share = f"{row['share']:.1%}" if row["share"] >= MAC_BAR else f"**{row['share']:.1%}**"
    return f"| {name} | {row['graph']:.2f} | {file} | {share} | {row['sums']} | {size} |"


def measure(name: str, size: int) -> dict[str, Any]:
    """Decibels of the float files of one model, and what leaves float16's range."""
    model, x = zoo.build(name, resolution=size)
    want = _answers(model, x)
    program = capture(model, (x,))
    for step in optimize():
        program = step.apply(program).program
    row: dict[str, Any] = {"size": size}
    with tempfile.TemporaryDirectory() as folder:
        for word, target in (("fp32", IPHONE_FP32), ("fp16", IPHONE_FP16)):
            place = Path(folder) / word
            place.mkdir()
            emitted = emit(program, target, place)
            row[word] = _worst(want, load(place / emitted.model)([x.numpy()]))
        stored = load(place / emitted.model, precision="f16")
        row["stored"] = _worst(want, stored([x.numpy()]))
    row["overflow"] = dict(stored.overflows)
    row["weights"] = _worst(want, _rounded(program).run_flat(x))
    return row


def _rounded(program: Program) -> Program:
    """The program with its weights rounded to float16, in place: it is not used again."""
    module = program.graph_module
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.dtype is torch.float32:
                tensor.copy_(tensor.half().float())
    return program


def measure_int8(name: str, size: int) -> dict[str, Any]:
    """Decibels of the quantized graph and of the saved program, and what of it is in eight bits."""
    model, _ = zoo.build(name, resolution=size)
    data = images(24, size, seed=1)
    calibration, judged = data[:16], data[16:]
    artifact = fxc.compile(
        model, "iphone-int8", example_inputs=(data[:1],), calibration_data=calibration.split(8)
    )
    want = _answers(model, judged)
    program = open_package(artifact.model).program
    sums = placed(program, ("add",))
    return {
        "graph": _worst(want, artifact.program.run_flat(judged)),
        "file": _worst(want, load(artifact.model)([judged.numpy()])),
        "share": share(artifact),
        "sums": f"{sum(not p.why for p in sums)}/{len(sums)}",
        "ratio": artifact.report["size"]["ratio"],
    }


def share(artifact: fxc.Artifact) -> float:
    """Of the multiply-accumulates of layers with weights, those in eight bits in the saved program."""
    placed_in = {k.layer for k in artifact.runner().kernels() if k.integer}
    tensors = artifact.manifest["tensors"]
    layers = [row for row in artifact.report["layers"] if row["op"].startswith(("conv", "linear"))]
    done = sum(row["macs"] for row in layers if tensors.get(row["layer"]) in placed_in)
    return done / max(sum(row["macs"] for row in layers), 1)


def _answers(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [y for y in pytree.tree_leaves(model(x)) if isinstance(y, Tensor)]


def _worst(want: Sequence[Tensor], found: Sequence[Tensor | np.ndarray[Any, Any]]) -> float:
    return min(sqnr_db(a, torch.as_tensor(b)) for a, b in zip(want, found, strict=True))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
