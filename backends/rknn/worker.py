"""What runs inside RKNN-Toolkit2's environment, as a program of its own: ``worker.py [REQUEST ANSWER]``.

It imports nothing of fxc, and must do with the toolkit's Python and numpy. Files that a request names lie in the current
folder; arrays are ``.npy``. A bundle carries it as ``build_rknn.py`` with ``build_rknn.json`` for its request: run it without
arguments by a Python that has rknn-toolkit2 2.5.0 and setuptools<70. What it makes goes into a folder beside the bundle,
FOLDER.device, as nothing may be added to the bundle. Actions:

``versions``
    → ``{"versions": {distribution: version}}``

``build``: an ONNX file becomes a ``.rknn`` file, which may then run in the toolkit's x86 simulator, in the same process,
as the toolkit cannot simulate a saved file.

    model, output     file names
    config            keywords of ``RKNN.config``; ``target_platform`` is one. ``optimization_level`` 2 keeps to a Q/DQ file's
                      codes; 3, the toolkit's default, changes some (seen: global average pooling off by up to 4)
    dataset           samples, each a list of one array per input: the toolkit quantizes by itself. ``null``: what the file
                      says, Q/DQ or float. The samples are NCHW whatever the board will get, and before mean and deviation
    hybrid            ``{"layers": {tensor: "float16" | "int16" | "int8"}, "ranges": {tensor: [min, max]}, "rest": type}``
                      or ``null``; needs ``dataset``. A layer goes by the name of its output tensor. "rest", if there, is the
                      type of layers without a range: the toolkit makes some of its own, tiles of a wide convolution
    inputs            samples to simulate. Floats in the file's own layout, or, where the config folds mean and deviation
                      in, what the board gets
    layout            ``"nchw"`` or ``"nhwc"``, of the 4-d arrays in ``inputs``

    → ``{"model", "versions", "outputs": [[name.npy, …] per sample], "ignored": [names in "hybrid" that the toolkit does not
    know], "tensors": [names that it does]}``. Outputs are float32 in the file's layout, whatever the board's are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("rknn-toolkit2", "torch", "onnx", "onnxruntime", "numpy")


class Refused(Exception):
    """A step that the toolkit did not take; its arguments are what and why."""


def versions(request: dict[str, Any]) -> dict[str, Any]:
    """The versions of the packages that take part in a build."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"versions": found}


def build(request: dict[str, Any]) -> dict[str, Any]:
    """Build a ``.rknn`` file and simulate it; see the top of the file."""
    # The toolkit fails late, and in odd ways, on a file that is not there.
    for name in (
        request["model"],
        *(n for key in ("dataset", "inputs") for s in request[key] or () for n in s),
    ):
        if not os.path.isfile(name):
            raise Refused(f"there is no file {name}", "a request names files in its own folder")
    tool = _toolkit(request["config"])
    _say("load")
    _must("load_onnx", tool.load_onnx(model=request["model"]))
    facts: dict[str, Any] = {"ignored": [], "tensors": []}
    if request.get("hybrid"):
        tool, facts = _hybrid(tool, request)
    else:
        _say("build")
        dataset = _dataset(request["dataset"])
        _must("build", tool.build(do_quantization=dataset is not None, dataset=dataset))
    _say("export")
    _must("export_rknn", tool.export_rknn(request["output"]))
    outputs = _simulate(tool, request) if request.get("inputs") else []
    return {"model": request["output"], "outputs": outputs, **facts, **versions(request)}


def _toolkit(config: dict[str, Any]) -> Any:
    _say("start")
    from rknn.api import RKNN

    tool = RKNN(verbose=True)
    _must("config", tool.config(**config))
    return tool


def _dataset(samples: list[list[str]] | None) -> str | None:
    """The toolkit's list of calibration files, one sample a line."""
    if not samples:
        return None
    Path("dataset.txt").write_text("".join(" ".join(names) + "\n" for names in samples))
    return "dataset.txt"


def _hybrid(tool: Any, request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The toolkit's two steps, with our choices written into the file that it leaves between them."""
    dataset = _dataset(request["dataset"])
    if dataset is None:
        raise Refused(
            "hybrid quantization needs a dataset", "the toolkit measures before its file can be edited"
        )
    _say("measure")
    _must("hybrid_quantization_step1", tool.hybrid_quantization_step1(dataset=dataset))
    stem = Path(request["model"]).stem
    model, data, config = (f"{stem}.{end}" for end in ("model", "data", "quantization.cfg"))
    facts = _edit(Path(config), request["hybrid"])
    tool.release()
    _say("build")
    tool = _toolkit(request["config"])
    done = tool.hybrid_quantization_step2(model_input=model, data_input=data, model_quantization_cfg=config)
    _must("hybrid_quantization_step2", done)
    return tool, facts


def _edit(path: Path, hybrid: dict[str, Any]) -> dict[str, Any]:
    from ruamel.yaml import YAML

    ruamel = YAML()
    document = ruamel.load(path.read_text())
    known = document["quantize_parameters"]
    layers, ranges = hybrid.get("layers") or {}, hybrid.get("ranges") or {}
    ranges = {**_of_products(known, ranges), **ranges}
    if rest := hybrid.get("rest"):
        layers = {**{name: rest for name in known if name not in ranges}, **layers}
    document["custom_quantize_layers"] = {name: dtype for name, dtype in layers.items() if name in known}
    for name, (low, high) in ranges.items():
        if name in known:
            _set_range(known[name], float(low), float(high))
    with path.open("w") as file:
        ruamel.dump(document, file)
    ignored = sorted({name for name in (*layers, *ranges) if name not in known})
    return {"ignored": ignored, "tensors": sorted(known)}


def _of_products(known: Any, ranges: dict[str, Any]) -> dict[str, Any]:
    """A linear layer's result has several names while the toolkit makes a convolution of it: "y_mm", "y_mm_tp"."""
    bases = {name: name.partition("_mm")[0] for name in known if "_mm" in name and "_tile" not in name}
    return {name: ranges[base] for name, base in bases.items() if base in ranges}


def _set_range(tensor: dict[str, Any], low: float, high: float) -> None:
    """Give the range only: the toolkit refuses a changed scale, and makes its own from the range, zero included."""
    tensor["min"], tensor["max"] = [low], [high]


def _simulate(tool: Any, request: dict[str, Any]) -> list[list[str]]:
    import numpy as np

    _say("simulate")
    _must("init_runtime", tool.init_runtime(target=None))
    names = []
    for number, sample in enumerate(request["inputs"]):
        arrays = [np.load(name, allow_pickle=False) for name in sample]
        # Only 4-d inputs have a layout, and the toolkit complains of one given for others.
        layouts = [request["layout"] if array.ndim == 4 else "nchw" for array in arrays]
        answers = tool.inference(inputs=arrays, data_format=layouts)
        if answers is None:
            raise Refused("the simulator gave no output", "inference returned nothing")
        names.append([f"output_{number}_{i}.npy" for i in range(len(answers))])
        for name, answer in zip(names[-1], answers):
            np.save(name, np.ascontiguousarray(answer), allow_pickle=False)
    return names


def _must(step: str, code: Any) -> None:
    if code != 0:
        raise Refused(f"RKNN-Toolkit2's {step} failed", "")


def _say(stage: str) -> None:
    print(f"\nfxc: {stage}", flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"versions": versions, "build": build}
    try:
        return actions[request["action"]](request)
    except Refused as error:
        return {"error": {"what": error.args[0], "why": error.args[1]}}
    # The toolkit raises what it likes and leaves by exit() too; all of it is an answer.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        return {"error": {"what": f"{type(error).__name__} in RKNN-Toolkit2", "why": lines[-1][:500]}}


def _beside() -> list[str]:
    """Go to a folder beside the bundle that this file lies in, with what a build reads; the request and answer there."""
    here = Path(__file__).resolve().parent
    made = Path(f"{here}.device")
    request = json.loads((here / "build_rknn.json").read_text(encoding="utf-8"))
    made.mkdir(exist_ok=True)
    samples = [name for sample in request["dataset"] or () for name in sample]
    # Beside the model its weights, if they are too large to lie in it.
    for path in (
        *here.glob(f"{request['model']}*"),
        *(here / name for name in (*samples, "build_rknn.json")),
    ):
        shutil.copyfile(path, made / path.name)
    os.chdir(made)
    return ["build_rknn.json", "build_rknn.answer.json"]


def main() -> None:
    """Read the request, write the answer in one step, and leave without the toolkit's own clean-up, which can abort."""
    names = sys.argv[1:] or _beside()
    request = json.loads(Path(names[0]).read_text(encoding="utf-8"))
    answer = _answer(request)
    temporary = Path(f"{names[1]}.new")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.replace(names[1])
    said = answer.get("error")
    _say(f"{said['what']}: {said['why']}" if said else f"done, in {Path.cwd()}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if said else 0)


if __name__ == "__main__":
    main()
