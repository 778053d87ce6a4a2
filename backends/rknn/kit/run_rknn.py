#!/usr/bin/env python3
"""On the board: feed model.rknn the inputs in golden/ and write what the NPU answers, for `fxc verify --device-outputs`.

    python3 run_rknn.py [--model FILE] [--output DIR]

The answers go into a folder beside this one, FOLDER.device/outputs.

Needs rknn-toolkit-lite2 and NumPy on the board.
"""

import argparse
import json
import os
import struct
import sys
from typing import Any, Dict

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
MADE = HERE + ".device"  # beside the bundle, to which nothing may be added
TYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
}


def tensors(path: str) -> Dict[str, Any]:
    """The arrays of a .safetensors file by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length).decode("utf-8")), file.read()
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }


def built() -> str:
    """The model of this bundle, or the one that build_rknn.py made of it."""
    own = os.path.join(HERE, "model.rknn")
    return own if os.path.exists(own) else os.path.join(MADE, "model.rknn")


def board(model: str) -> Any:
    """The model on the NPU."""
    from rknnlite.api import RKNNLite

    lite = RKNNLite()
    for name, code in (("load_rknn", lite.load_rknn(model)), ("init_runtime", lite.init_runtime())):
        if code != 0:
            raise SystemExit(f"RKNNLite's {name} failed with {code}")
    return lite


def main() -> int:
    """Run every sample; the outputs of all of them go to one .npy file for each output."""
    parser = argparse.ArgumentParser(description="Run model.rknn on the inputs in golden/.")
    parser.add_argument("--model", default=built())
    parser.add_argument("--output", default=os.path.join(MADE, "outputs"))
    given = parser.parse_args()
    with open(os.path.join(HERE, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    golden = tensors(os.path.join(HERE, "golden", "inputs.safetensors"))
    inputs = [golden[entry["name"]] for entry in manifest["inputs"]]
    lite, answers = board(given.model), []
    for i in range(len(inputs[0])):
        sample = [np.ascontiguousarray(x[i : i + 1]) for x in inputs]
        layouts = ["nchw"] * len(sample)
        answers.append(lite.inference(inputs=sample, data_format=layouts))
    os.makedirs(given.output, exist_ok=True)
    for entry, parts in zip(manifest["outputs"], zip(*answers)):
        np.save(os.path.join(given.output, entry["name"] + ".npy"), np.concatenate(parts))
    print(f"wrote {len(manifest['outputs'])} outputs to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
