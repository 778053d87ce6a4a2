"""The report of a compile, as plain data. No clock and no path in it: two equal compiles give equal bytes."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from fxc import __version__
from fxc.compiler.backend import Emitted, Kernel
from fxc.compiler.macs import macs
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.program import Program, attributes_used
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_TENSOR
from fxc.proof import OutputProof

if TYPE_CHECKING:
    from fxc.job import Execution, Finished

FORMAT = 1
_WARN_DB = 1.0
"""A file that is this much further from float than its graph gets a warning."""
_WARN_VARIANT_DB = 4.0
"""The same for a file whose float parts have another type: on few samples, rounding alone moves a lively net by up to 3 dB."""
_LOW_PRECISION_DB = {"bf16": 30.0, "fp16": 45.0, "w8": 25.0, "w4": 5.0}
"""Of precisions whose graph is the float one: below this a file gets a warning (8 and 11 bits keep about 45 and 60); weights alone in few bits likewise."""


def build_report(done: Finished) -> dict[str, Any]:
    """Everything the report shows, from a finished compile."""
    program, target = done.program, done.request.target
    layers = layer_rows(done)
    return {
        "format": FORMAT,
        "model": _model(done),
        "target": {
            "name": target.name,
            "device": target.device,
            "precision": target.precision,
            "notes": target.notes,
        },
        "passes": _passes(done),
        "notes": [vars(n) for n in program.notes if n.kind != "float"] + _warnings(done),
        "calibration": _calibration(done),
        "layers": layers,
        "float_tensors": [
            {"layer": n.layer, "reason": n.text}
            for n in program.notes
            if n.kind == "float" and target.quantized
        ],
        "accuracy": _accuracy(done),
        "kernels": kernel_summary(done.execution.kernels, done.float_program, done.emitted.tensors),
        "size": _size(done),
        "tools": {
            "fxc": __version__,
            "torch": torch.__version__,
            "runtime": done.execution.runtime,
            **done.emitted.tools,
        },
    }


def layer_rows(done: Finished) -> list[dict[str, Any]]:
    """One row per conv, linear and matmul: int8 or float, its share of the work, and its SQNR."""
    reasons = {n.layer: n.text for n in done.program.notes if n.kind == "float"}
    heavy = (n for n in done.program.graph.nodes if macs(n) > 0)
    return [_layer_row(n, done.checked.layers.get(n.name), reasons) for n in heavy]


def _layer_row(node: fx.Node, noise: float | None, reasons: dict[str | None, str]) -> dict[str, Any]:
    source = node.args[0]
    quantized = all(isinstance(a, fx.Node) and a.target in DEQUANTIZE for a in node.args[:2])
    row: dict[str, Any] = {
        "layer": label_of(node),
        "op": op_name(node),
        "macs": macs(node),
        "quantized": quantized,
        "reason": None if quantized else reasons.get(label_of(node)),
        "sqnr_db": None if noise is None else round(noise, 2),
    }
    if quantized and isinstance(source, fx.Node) and source.target is DEQUANTIZE_TENSOR:
        row.update(scale=source.args[1], zero_point=source.args[2], dtype=_code_dtype(source))
    return row


def _code_dtype(dequantize: fx.Node) -> str:
    codes = dequantize.args[0]
    assert isinstance(codes, fx.Node)
    return str(codes.meta["val"].dtype).removeprefix("torch.")


def kernel_summary(kernels: list[Kernel], program: Program, tensors: Any) -> dict[str, Any]:
    """What the runtime said it will execute, or the file asks for, and how many multiply-accumulates run on integers."""
    work = {label_of(n): macs(n) for n in program.graph.nodes if macs(n) > 0}
    named = {k.layer for k in kernels if k.integer}
    # A kernel goes by its layer's label, or by the tensor it writes where that one has the model's own output name.
    integer = {label for label in work if label in named or tensors.get(label) in named}
    covered, total = sum(m for label, m in work.items() if label in integer), sum(work.values())
    return {
        "integer": sum(k.integer for k in kernels),
        "float": sum(not k.integer for k in kernels),
        "planned": any(k.planned for k in kernels),
        "macs": total,
        # A runtime that fused everything into something of its own reports no kernel: then nothing can be said.
        "mac_coverage": covered / total if total and kernels else None,
        "by_implementation": dict(sorted(Counter(f"{k.op} {k.implementation}" for k in kernels).items())),
        "float_layers": sorted(label for label in work if label not in integer),
    }


def _model(done: Finished) -> dict[str, Any]:
    program = done.float_program
    tensors = [t for t in attributes_used(done.source.graph_module).values() if isinstance(t, nn.Parameter)]
    return {
        "name": program.name,
        "parameters": sum(t.numel() for t in tensors),
        "macs": sum(macs(n) for n in program.graph.nodes),
        "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in program.inputs],
        "outputs": [{"name": o.name, "shape": list(o.shape), "dtype": o.dtype} for o in program.outputs],
        "dynamic_batch": program.dynamic,
    }


def _passes(done: Finished) -> list[dict[str, Any]]:
    drift = iter(done.watch.verify.drift) if done.watch.verify else iter(())
    rows = []
    for entry in done.watch.journal.entries:
        # Only a pass that modified something was checked, so the two lists run in step.
        moved = next(drift, (None, None))[1] if entry.modified else None
        rows.append(
            {
                "pass": entry.text,
                "modified": entry.modified,
                "added": entry.added,
                "removed": entry.removed,
                "drift": moved,
            }
        )
    return rows


def _calibration(done: Finished) -> dict[str, Any] | None:
    if done.statistics is None:
        return None
    return {
        "source": "data" if done.data.given else "synthesised",
        "said": done.data.source,
        "images": done.statistics.images,
    }


def _accuracy(done: Finished) -> dict[str, Any]:
    return {
        "outputs": [
            {
                "name": p.name,
                **({"file": p.file} if p.file else {}),
                "graph_db": _round(p.graph_db),
                "file_db": _round(p.file_db),
                "lost_db": None
                if done.request.target.precision in _LOW_PRECISION_DB
                else round(p.lost_db, 2),
            }
            for p in done.proofs
        ],
        "samples": _rows(done),
        "how": _how(done.execution),
    }


def _how(execution: Execution) -> str:
    """What ran the files; a variant is named where that was something else."""
    others = {n: words for n, words in execution.variant_runtimes.items() if words != execution.runtime}
    said = "".join(f"; {name} in {words}" for name, words in others.items())
    return f"measured on this host: the emitted file, read back from disk, in {execution.runtime}{said}"


def _warnings(done: Finished) -> list[dict[str, Any]]:
    notes = []
    for p in done.proofs:
        if p.graph_db is None:
            text = f"output {p.name} of the float model is zero or not finite on the samples: its accuracy cannot be judged"
            notes.append({"kind": "warning", "text": text, "layer": p.name, "by": "check"})
        loss = _loss(p, done.request.target.precision)
        if loss is not None:
            notes.append({"kind": "warning", "text": loss, "layer": p.name, "by": "run"})
    return notes


def _loss(proof: OutputProof, precision: str) -> str | None:
    least = _LOW_PRECISION_DB.get(precision)
    if least is None and proof.lost_db > (_WARN_VARIANT_DB if proof.file else _WARN_DB):
        return f"{proof.file or 'the file'}'s output {proof.name} is {proof.lost_db:.1f} dB further from float than the graph it was made from"
    if least is not None and proof.file_db is not None and proof.file_db < least:
        return f"output {proof.name} is only {proof.file_db:.1f} dB from float, {precision} usually keeps {least:.0f}"
    return None


def _size(done: Finished) -> dict[str, Any]:
    float_bytes = sum(
        t.numel() * t.element_size() for t in attributes_used(done.float_program.graph_module).values()
    )
    size = done.execution.file_bytes
    return {
        "float_weights_bytes": float_bytes,
        "model_bytes": size,
        "ratio": round(size / float_bytes, 4) if float_bytes else None,
        "files": model_files(done.emitted),
    }


def model_files(emitted: Emitted) -> list[str]:
    """The main model file and what lies beside it under its name or in folders: no variant, script or text for the device."""
    main = PurePath(emitted.model)
    return [
        name
        for name in emitted.files
        if name not in emitted.variants
        and (
            name.startswith(f"{main}.")
            or PurePath(name).with_suffix("") == main.with_suffix("")
            or PurePath(name).parent != main.parent
        )
    ]


def _rows(done: Finished) -> int:
    samples = done.data.samples
    return int(samples[0].shape[0]) if samples and samples[0].dim() else prod([1])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
