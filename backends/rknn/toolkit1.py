"""RV1126 and RV1109: files for RKNN-Toolkit 1, which reads older ONNX, quantizes by itself, and cannot be installed here.

Sources: RKNN_OP_Support_V1.7.5 of Rockchip's rknn-toolkit repository (ONNX opset 8 to 12, ONNX 1.6's ir_version 6) and its
examples (the words of ``config``, lists of samples). Not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fxc.backends.onnx import emit as onnx_file
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.rknn.image import Normalisation
from fxc.backends.rknn.names import MODEL, RKNN, TOOLKIT, source
from fxc.compiler.backend import Emitted
from fxc.compiler.errors import LegalityError
from fxc.compiler.program import Program
from fxc.compiler.target import Target

_OPSET, _IR_VERSION = 11, 6
_WRITTEN = 13
"""The oldest that ``backends/onnx`` writes."""
_FOLDER = "dataset"
_NOTE = (
    "model.rknn is to be built by RKNN-Toolkit 1.7 (build_rknn.py), which quantizes by itself: not run here, and what eight "
    "bits cost is not known"
)


def emit(program: Program, bare: Program, directory: Path, table: Mapping[Any, Lowering]) -> Emitted:
    """The float file, the same from behind a normalisation that the toolkit does, and samples to quantize on.

    Args:
        bare: ``program`` from behind the normalisation of an image on, or ``program`` itself. Its samples are the toolkit's.

    Raises:
        LegalityError: an operator that the files cannot have.
    """
    written = _file(program, directory / MODEL, table)
    files = [*written.files]
    if bare is not program:
        files += _file(bare, directory / TOOLKIT, table).files
    return Emitted(
        written.model,
        (*files, *_samples(program, directory)),
        written.inputs,
        written.outputs,
        written.tensors,
        notes=(*written.notes, _NOTE),
    )


def request(directory: Path, target: Target, image: Normalisation | None) -> dict[str, Any]:
    """``build_rknn.json``: what the script asks the toolkit for."""
    config: dict[str, Any] = {
        "target_platform": [target.options["platform"]],
        "quantized_dtype": "asymmetric_affine-u8",
        "optimization_level": 3,
        "reorder_channel": "0 1 2",
    }
    if image is not None:
        config |= {"mean_values": [list(image.mean)], "std_values": [list(image.std)]}
    names = sorted(path.name for path in (directory / _FOLDER).iterdir())
    samples: dict[str, list[str]] = {}
    for name in names:
        samples.setdefault(name.partition("_")[0], []).append(f"{_FOLDER}/{name}")
    return {
        "model": source(directory),
        "output": RKNN,
        "config": config,
        "dataset": [samples[key] for key in sorted(samples)],
    }


def _file(program: Program, path: Path, table: Mapping[Any, Lowering]) -> Emitted:
    try:
        written = onnx_file.emit(program, path, opset=_WRITTEN, batch=1, table=table, rewrite=_older)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise LegalityError(
            f"{program.name} cannot be written as ONNX opset {_OPSET}, which RKNN-Toolkit 1 reads",
            why=str(error).strip().splitlines()[0],
            fix="cut the graph before that operator (outputs=…), or replace it in the model",
        ) from error
    model = onnx.load(path)
    model.ir_version = _IR_VERSION
    onnx.save(model, path)
    return written


def _samples(program: Program, directory: Path) -> list[str]:
    """One .npy file for each input of each sample, by the sample's number: ``dataset/0003_0.npy``.

    Channels are last in what has four dimensions: toolkit 1 asks for that whatever the model's own layout is, and projects
    for the RV1109 do it.
    """
    (directory / _FOLDER).mkdir()
    inputs = [x.detach().cpu().numpy() for x in program.example_inputs]
    count = max((len(x) for x in inputs if x.ndim), default=1)
    names = []
    for i in range(count):
        for j, x in enumerate(inputs):
            row = x[i : i + 1] if x.ndim and len(x) == count else x
            names.append(f"{_FOLDER}/{i:04d}_{j}.npy")
            np.save(directory / names[-1], np.ascontiguousarray(_channels_last(row)), allow_pickle=False)
    return names


def _channels_last(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


_AXES = {"Squeeze": "axes", "Unsqueeze": "axes", "ReduceSum": "axes", "Split": "split"}
"""Operators that take as an input from opset 13 on what was an attribute before."""


def _older(graph: gs.Graph) -> None:
    """Opset 13 as opset 11: the checker refuses what has no such form. Softmax is over the last axis, where both agree."""
    graph.opset = _OPSET
    for node in graph.nodes:
        if node.op in _AXES and len(node.inputs) > 1:
            axes = node.inputs.pop()
            node.attrs[_AXES[node.op]] = [int(a) for a in np.atleast_1d(axes.values)]
        elif node.op == "Resize":
            # Region and scales, which may be left out since, are empty tensors.
            for place, word in ((1, "region"), (2, "scales")):
                if node.inputs[place].is_empty():
                    node.inputs[place] = gs.Constant(f"{node.name}.{word}", np.zeros(0, np.float32))
