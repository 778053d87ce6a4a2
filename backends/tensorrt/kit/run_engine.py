#!/usr/bin/env python3
"""Feed an engine the inputs in golden/ and write what it answers, for `fxc verify --device-outputs`.

    python3 run_engine.py [--engine FILE] [--output DIR]

Engine and answers lie in a folder beside this one, FOLDER.device and FOLDER.device/outputs.

Needs TensorRT 8.5 or newer, NumPy, and the CUDA runtime that TensorRT needs anyway.
"""

import argparse
import ctypes
import json
import os
import struct
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
    "BOOL": np.bool_,
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


class Cuda:
    """The few calls of the CUDA runtime that are needed."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libcudart.so")

    def check(self, code: int) -> None:
        """Raise on an error code."""
        if code:
            raise RuntimeError(f"CUDA error {code}")

    def put(self, array: Any) -> Any:
        """A copy on the device."""
        pointer = ctypes.c_void_p()
        self.check(self.lib.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(array.nbytes)))
        self.check(
            self.lib.cudaMemcpy(
                pointer, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(array.nbytes), 1
            )
        )
        return pointer

    def get(self, pointer: Any, array: Any) -> None:
        """Fill ``array`` from the device."""
        self.check(
            self.lib.cudaMemcpy(
                array.ctypes.data_as(ctypes.c_void_p), pointer, ctypes.c_size_t(array.nbytes), 2
            )
        )


def run(trt: Any, engine: Any, feed: Dict[str, Any]) -> Dict[str, Any]:
    """Outputs by name."""
    cuda, context = Cuda(), engine.create_execution_context()
    held: Dict[str, Any] = {}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    for name in inputs:
        array = np.ascontiguousarray(feed[name], trt.nptype(engine.get_tensor_dtype(name)))
        context.set_input_shape(name, array.shape)
        held[name] = (cuda.put(array), array)
    for name in names:
        if name not in inputs:
            array = np.zeros(tuple(context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
            held[name] = (cuda.put(array), array)
    for name in names:
        context.set_tensor_address(name, held[name][0].value)
    if not context.execute_async_v3(0):
        raise RuntimeError("TensorRT could not run the engine")
    cuda.check(cuda.lib.cudaDeviceSynchronize())
    for name in names:
        if name not in inputs:
            cuda.get(*held[name])
    return {name: held[name][1] for name in names if name not in inputs}


def main() -> None:
    """Read the engine and the inputs, run, write one .npy per output."""
    import tensorrt as trt

    parser = argparse.ArgumentParser(description="Run an engine on the inputs in golden/.")
    parser.add_argument("--engine", default=os.path.join(MADE, "model.engine"))
    parser.add_argument("--output", default=os.path.join(MADE, "outputs"))
    options = parser.parse_args()
    with open(options.engine, "rb") as file:
        engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(file.read())
    with open(os.path.join(HERE, "manifest.json")) as file:
        manifest = json.load(file)
    golden = tensors(os.path.join(HERE, "golden", "inputs.safetensors"))
    feed = {entry["tensor"]: golden[entry["name"]] for entry in manifest["inputs"]}
    os.makedirs(options.output, exist_ok=True)
    found = run(trt, engine, feed)
    for entry in manifest["outputs"]:
        np.save(os.path.join(options.output, entry["name"] + ".npy"), found[entry["tensor"]])
    print(f"wrote {len(found)} outputs to {options.output}")


if __name__ == "__main__":
    main()
