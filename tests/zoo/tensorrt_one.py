"""Emit one model for TensorRT and judge the files, in this process: ``python -m tests.zoo.tensorrt_one resnet18``.

The row is printed as JSON on the last line. Small images by default: what is judged is the structure of the files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TARGETS = ("jetson-int8", "jetson-fp16")
VERSIONS = {"model.onnx": ("8.5", "10.3"), "model.typed.onnx": ("11.4",)}
"""Which TensorRT builds from which file."""
IMAGES = 8
_LAYER = re.compile(r"\b[A-Za-z_]\w*(?:\.\w+)+\b")
"""A layer's name in a reason; reasons are counted without."""


@dataclass(frozen=True)
class Sums:
    """Sums of two activations in ``model.onnx``, as residual connections are.

    Attributes:
        coded: with an operand out of a dequantizer, so that TensorRT adds them in an int8 kernel.
        reasons: of the others, how often each stands in the report.
        unexplained: names of those without a reason.
    """

    coded: int
    reasons: dict[str, int] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TargetRow:
    """One target's files.

    Attributes:
        bytes: of each model file.
        errors: findings of the rule checker that TensorRT would not take, as text with file and version.
        slow: rules that say where it would be slow, how often each applies to one file at most.
        share: of the multiply-accumulates outside the target's written list of what stays float, how many are int8 in the graph.
        graph_db, file_db, typed_db: SQNR of the outputs against the float graph; of several outputs the worst.
        sums: of the int8 target.
    """

    bytes: dict[str, int]
    errors: list[str]
    slow: dict[str, int]
    share: float | None
    graph_db: float | None
    file_db: float | None
    typed_db: float | None
    sums: Sums | None


@dataclass(frozen=True)
class Row:
    """One model."""

    name: str
    resolution: int
    macs: int
    float_bytes: int
    targets: dict[str, TargetRow]


def measure(name: str, resolution: int | None = None) -> Row:
    """Capture once, emit for both targets, and judge every file."""
    import fxc
    from tests.models.images import images
    from tests.models.zoo import build, small_resolution

    size = resolution or small_resolution(name)
    model, x = build(name, resolution=size)
    artifacts = fxc.compile(model, list(TARGETS), example_inputs=(x,), calibration_data=images(IMAGES, size, seed=1).split(4), verify=False)  # fmt: skip
    report = artifacts[TARGETS[0]].report
    rows = {target: _row(artifact) for target, artifact in artifacts.items()}
    return Row(name, size, report["model"]["macs"], report["size"]["float_weights_bytes"], rows)


def _row(artifact: Any) -> TargetRow:
    import onnx

    errors, slow = _judged(artifact.path)
    scheme = artifact.target.scheme
    plain, typed = (
        [r for r in artifact.report["accuracy"]["outputs"] if bool(r.get("file")) is t] for t in (False, True)
    )
    sums = None
    if scheme is not None:
        reasons = {r["layer"]: r["reason"] for r in artifact.report["float_tensors"]}
        sums = residual_sums(onnx.load(artifact.path / "model.onnx", load_external_data=False), reasons)
    return TargetRow(
        bytes={file: _bytes(artifact, file) for file in VERSIONS},
        errors=errors,
        slow=slow,
        share=None if scheme is None else int8_share(artifact.report["layers"], tuple(scheme.keep_float)),
        graph_db=_worst(plain, "graph_db"),
        file_db=_worst(plain, "file_db"),
        typed_db=_worst(typed, "file_db"),
        sums=sums,
    )


def _judged(folder: Path) -> tuple[list[str], dict[str, int]]:
    from fxc.backends.tensorrt.checker import check_file

    errors, slow = [], Counter[str]()
    for file, version in ((file, version) for file, versions in VERSIONS.items() for version in versions):
        found = check_file(folder / file, tensorrt=version)
        errors += [f"{file} {version}: {f.rule} at {f.node}" for f in found if f.severity == "error"]
        slow |= Counter(f.rule for f in found if f.severity == "slow")
    return errors, dict(slow)


def _bytes(artifact: Any, file: str) -> int:
    """With the weights that lie in a file of their own."""
    files = artifact.manifest["files"]
    return sum(facts["bytes"] for name, facts in files.items() if name == file or name.startswith(f"{file}."))


def int8_share(layers: Sequence[dict[str, Any]], keep_float: Sequence[str]) -> float | None:
    """The share of int8 among the multiply-accumulates of layers that may be int8; ``None`` if there are none."""
    counted = [row for row in layers if row["op"] not in keep_float]
    total = sum(row["macs"] for row in counted)
    return sum(row["macs"] for row in counted if row["quantized"]) / total if total else None


def residual_sums(model: Any, reasons: dict[str, str]) -> Sums:
    """Sums of two values that both depend on the input; ``reasons`` are the report's, by layer."""
    graph = model.graph
    moving, makers = {i.name for i in graph.input}, {}
    coded, why, bare = 0, Counter[str](), []
    for node in graph.node:  # in topological order, as ONNX has it
        if moving & set(node.input):
            moving |= set(node.output)
        makers.update(dict.fromkeys(node.output, node.op_type))
        if node.op_type != "Add" or not set(node.input) <= moving:
            continue
        label = (node.name or node.output[0]).split("/")[0]
        if "DequantizeLinear" in {makers.get(name) for name in node.input}:
            coded += 1
        elif label in reasons:
            why[_LAYER.sub("…", reasons[label])] += 1
        else:
            bare.append(label)
    return Sums(coded, dict(why), bare)


def _worst(rows: Sequence[dict[str, Any]], word: str) -> float | None:
    known = [row[word] for row in rows if row[word] is not None]
    return min(known) if known else None


def main(arguments: list[str]) -> int:
    """Measure; a failure ends as a traceback and an exit code, like that of any command."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.tensorrt_one", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--resolution", type=int, help="image side; by default the smallest useful one")
    parser.add_argument("--core", type=int, help="run on this processor core only")
    options = parser.parse_args(arguments)
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        # Before torch and the runtimes count their processors.
        os.sched_setaffinity(0, {options.core})
    print(json.dumps(asdict(measure(options.name, options.resolution))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
