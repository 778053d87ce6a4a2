"""In a child: every contestant's file against the eager float model on images that calibration did not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fxc.compiler.errors import FxcError
from fxc.tools.bench.contestants import Built, build
from fxc.tools.bench.figures import sqnr_db
from fxc.tools.bench.openvino_file import OpenVinoFile
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.subject import answers, subject


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """Quality of every contestant.

    Returns:
        ``"signal"``: energy of the float answer, image by image; and by contestant and runtime (``"openvino"`` with an f32
        hint, ``"ort"`` where the file is ONNX): ``"noise"`` energies, ``"db"``; and ``"coverage"`` in OpenVINO; or
        ``{"failed": reason}``.
    """
    target = subject(plan)
    reference = answers(target.model, target.held_out, target.batch)
    found: dict[str, Any] = {"signal": _energies(reference.numpy()), "contestants": {}}
    for name in plan.contestants:
        try:
            built = build(name, target, folder / name.replace(":", "_"), plan.options(name))
            found["contestants"][name] = _judged(built, plan, target.held_out, reference)
        except FxcError as error:
            found["contestants"][name] = {"failed": error.what}
    return found


def _judged(built: Built, plan: Plan, data: Tensor, reference: Tensor) -> dict[str, Any]:
    images, wanted = [x.numpy() for x in data.split(1)], reference.numpy()
    file = OpenVinoFile(built.file, images[0].shape, "f32", plan.threads)
    coverage = file.coverage()
    row: dict[str, Any] = {
        "openvino": _distance([file(x) for x in images], wanted),
        "coverage": coverage.share,
        "float_layers": list(coverage.float_layers),
        "megabytes": sum(f.stat().st_size for f in _files(built.file)) / 1e6,
    }
    if built.file.suffix == ".onnx":
        row["ort"] = _distance(_onnxruntime(built.file, images, plan.threads), wanted)
    return row


def _distance(outputs: list[Any], reference: Any) -> dict[str, Any]:
    noise = _energies(np.concatenate(outputs) - reference)
    return {"noise": noise, "db": sqnr_db(sum(_energies(reference)), sum(noise))}


def _energies(values: Any) -> list[float]:
    """Sum of squares per image of [n, …]."""
    return [float(v) for v in np.square(values.astype(np.float64)).reshape(len(values), -1).sum(1)]


def _onnxruntime(file: Path, images: list[Any], threads: int) -> list[Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: x})[0] for x in images]


def _files(main: Path) -> list[Path]:
    return [main, *(p for p in (main.with_suffix(".bin"), main.with_suffix(".onnx.data")) if p.is_file())]
