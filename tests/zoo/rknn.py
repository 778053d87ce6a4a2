"""Our quantization beside RKNN-Toolkit2's own, on the same images in the same simulator: ``make zoo-rknn``."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxc
import fxc.backends.rknn as room
from fxc import catalogue
from fxc.backends.rknn.toolchain import RKNN
from fxc.compiler.toolchain import worker
from fxc.compiler.toolchain.environment import require
from tests.models import hard, zoo
from tests.models.images import images
from tests.models.metrics import sqnr_db
from tests.zoo import capped

TABLE = Path(__file__).with_name("rknn.md")
CAPS = capped.Caps(seconds=1800, gigabytes=12)
PLAIN = tuple(name for name in zoo.NAMES if name in zoo.PURE_CONV)
HARD = tuple(name for name in hard.NAMES if name in zoo.PURE_CONV)
CALIBRATION, JUDGED, TARGET = 16, 8, "rk3588-int8"
SEEDS = (0, 1, 2)
"""Of weights and images: one random net on eight images moves by half a decibel with a weight's last code."""
ALGORITHMS = ("normal", "mmse")
SCRIPT = Path(room.__file__).with_name("worker.py")

HEADER = """# Rockchip's simulator: our numbers and the toolkit's own

Livened random weights at each model's smallest useful resolution, calibrated on 16 images and judged on 8 others, for
rk3588. *dB* is the SQNR of the outputs against the eager float module: of our quantized graph in PyTorch, of our `.rknn` in
RKNN-Toolkit2's simulator, and of the toolkit's own quantization (`normal`, `mmse`) of the float file, same images, same
simulator. *ours - theirs* is against the better of the two. *int8* is the share of multiply-accumulates that the toolkit's
compiler says it runs in int8. Each number is a mean over three random nets, each with images of its own; *of each* has the
three differences. Hard variants have channels of unequal range in the same function. Rewritten by `make zoo-rknn`.

| model | graph | ours | normal | mmse | ours - theirs | of each | int8 |
|---|---|---|---|---|---|---|---|
"""


def main(arguments: list[str]) -> int:
    """Measure the named models (``hard:resnet18`` is a hard variant), or all; without arguments the table is rewritten."""
    if arguments[:1] == ["--one"]:
        print(json.dumps(measure(arguments[1], int(arguments[2]))))
        return 0
    lines = []
    for name in arguments or [*PLAIN, *(f"hard:{name}" for name in HARD)]:
        lines.append(_line(name))
        print(lines[-1], flush=True)
    if not arguments:
        TABLE.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return int(any("failed" in line for line in lines))


def _line(name: str) -> str:
    rows = []
    for seed in SEEDS:
        outcome = capped.run([sys.executable, "-m", "tests.zoo.rknn", "--one", name, str(seed)], CAPS)
        if outcome.reason:
            return f"| {name} | failed: {outcome.reason} |||||||"
        rows.append(json.loads(outcome.output.splitlines()[-1]))
    gains = [row["ours"] - max(row[algorithm] for algorithm in ALGORITHMS) for row in rows]
    cells = [f"{_mean(row[key] for row in rows):.2f}" for key in ("graph", "ours", *ALGORITHMS)]
    each = " ".join(f"{gain:+.1f}" for gain in gains)
    coverage = min(row["coverage"] for row in rows)
    return f"| {name} | {' | '.join(cells)} | {_mean(gains):+.2f} | {each} | {coverage:.1%} |"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def measure(name: str, seed: int = 0) -> dict[str, float]:
    """Decibels of the worst output: the graph's, our file's, and the toolkit's with each of its algorithms."""
    model, size, data = _model(name, seed)
    calibration, judged = data[:CALIBRATION], data[CALIBRATION:]
    with torch.no_grad():
        want = [y for y in pytree.tree_leaves(model(judged)) if isinstance(y, Tensor)]
    artifact = fxc.compile(
        model, TARGET, example_inputs=(calibration[:1],), calibration_data=calibration.split(8)
    )
    simulator = catalogue.room(artifact.target).load(artifact.model.with_name("model.rknn"), artifact.target)
    row = {
        "graph": _worst(want, artifact.program.run_flat(judged)),
        "ours": _worst(want, simulator([judged.numpy()])),
        "coverage": artifact.report["kernels"]["mac_coverage"],
    }
    floats = fxc.compile(model, "ort-fp32", example_inputs=(calibration[:1],))
    with tempfile.TemporaryDirectory() as folder:
        _float_file(floats, Path(folder), size)
        for algorithm in ALGORITHMS:
            row[algorithm] = _worst(want, _theirs(Path(folder), algorithm, calibration, judged))
    return row


def _model(name: str, seed: int) -> tuple[nn.Module, int, Tensor]:
    plain = name.removeprefix("hard:")
    size, count = zoo.small_resolution(plain), CALIBRATION + JUDGED
    # The model's own statistics come from images of even seeds.
    if plain == name:
        return zoo.build(name, resolution=size, seed=seed)[0], size, images(count, size, seed=2 * seed + 1)
    model, _ = hard.build(plain, resolution=size, seed=seed)
    return model, size, hard.images(count, size, seed=2 * seed + 1)


def _float_file(artifact: fxc.Artifact, folder: Path, size: int) -> None:
    from fxc.backends.onnx.emit import emit

    emit(artifact.program, folder / "float.onnx", opset=17, batch=1)


def _theirs(folder: Path, algorithm: str, calibration: Tensor, judged: Tensor) -> list[np.ndarray[Any, Any]]:
    answer = worker.run(
        require(RKNN),
        SCRIPT,
        {
            "action": "build",
            "model": "float.onnx",
            "output": "float.rknn",
            "config": {"target_platform": "rk3588", "quantized_algorithm": algorithm},
            "dataset": list(_saved(folder, "calibration", calibration)),
            "hybrid": None,
            "inputs": list(_saved(folder, "judged", judged)),
            "layout": "nchw",
        },
        folder,
        seconds=CAPS.seconds,
        log=folder / f"{algorithm}.log",
    )
    outputs = [worker.load_arrays(folder, names) for names in answer["outputs"]]
    return [np.concatenate(parts) for parts in zip(*outputs)]


def _saved(folder: Path, word: str, batch: Tensor) -> Iterator[list[str]]:
    for i, row in enumerate(batch):
        yield list(worker.save_arrays(folder, {f"{word}_{i}": row[None].numpy()}).values())


def _worst(want: list[Tensor], found: Any) -> float:
    return min(sqnr_db(a, torch.as_tensor(b).reshape(a.shape)) for a, b in zip(want, found, strict=True))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
