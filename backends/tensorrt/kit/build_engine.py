#!/usr/bin/env python3
"""Build a TensorRT engine out of this folder, on the device that will run it. Needs the device's own `tensorrt` only.

    python3 build_engine.py [--output model.engine] [--batch MIN OPT MAX] [--workspace MIB] [--timing-cache FILE]

Runs on Python 3.6 and newer, with TensorRT 8.x, 10.x and 11.x.
"""

import argparse
import json
import os
import sys
from typing import Any, List

HERE = os.path.dirname(os.path.abspath(__file__))
PLAIN, TYPED, FIRST_TYPED = "model.onnx", "model.typed.onnx", 11


def main() -> None:
    """Read the arguments, build, write."""
    options = _arguments()
    try:
        import tensorrt as trt
    except ImportError:
        sys.exit("TensorRT's Python package is not here; JetPack brings it (python3-libnvinfer)")
    major = int(trt.__version__.split(".")[0])
    if major < 8:
        sys.exit(f"TensorRT {trt.__version__} is too old: 8.0 or newer is needed")
    path = os.path.join(HERE, options.onnx or (TYPED if major >= FIRST_TYPED else PLAIN))
    print(f"TensorRT {trt.__version__}: building from {os.path.basename(path)}")
    built = _build(trt, major, path, options)
    _write(options.output, bytes(built))
    print(f"wrote {options.output} ({os.path.getsize(options.output)} bytes)")
    _describe(trt, options.output)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="Build a TensorRT engine out of this folder.")
    parser.add_argument("--onnx", help="another file of this folder")
    parser.add_argument("--output", default=os.path.join(HERE, "model.engine"))
    parser.add_argument(
        "--batch",
        type=int,
        nargs=3,
        default=(1, 1, 8),
        metavar=("MIN", "OPT", "MAX"),
        help="of a dynamic batch",
    )
    parser.add_argument("--workspace", type=int, default=1024, help="MiB that a layer may use while it runs")
    parser.add_argument("--timing-cache", default=os.path.join(HERE, "timing.cache"))
    parser.add_argument("--sparse", action="store_true", help="the weights are 2:4 sparse")
    parser.add_argument(
        "--version-compatible", action="store_true", help="for later versions of TensorRT too"
    )
    return parser.parse_args()


def _build(trt: Any, major: int, path: str, options: Any) -> Any:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(
        0 if major >= 10 else 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    )
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    _set_memory(trt, config, options.workspace << 20)
    for flag in _flags(major, options):
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if hasattr(trt, "ProfilingVerbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_profile(builder, network, config, options.batch)
    cache = _load_cache(config, options.timing_cache)
    built = builder.build_serialized_network(network, config)
    if built is None:
        sys.exit("TensorRT could not build an engine; its messages are above")
    if cache is not None:
        _write(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return built


def _flags(major: int, options: Any) -> List[str]:
    """From 11 on, a network computes in the types that its file names: there are no flags for them."""
    with open(os.path.join(HERE, "manifest.json")) as file:
        quantized = json.load(file)["target"]["precision"] == "int8"
    flags = [] if major >= FIRST_TYPED else ["FP16", "INT8"] if quantized else ["FP16"]
    flags += ["SPARSE_WEIGHTS"] if options.sparse else []
    return flags + (["VERSION_COMPATIBLE"] if options.version_compatible else [])


def _set_memory(trt: Any, config: Any, size: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size)
    else:  # before 8.4
        config.max_workspace_size = size


def _set_profile(builder: Any, network: Any, config: Any, batch: Any) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if not any(-1 in tuple(tensor.shape) for tensor in inputs):
        return
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        shapes = [tuple(n if d == -1 else d for d in tensor.shape) for n in batch]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)


def _load_cache(config: Any, path: str) -> Any:
    content = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            content = file.read()
    cache = config.create_timing_cache(content)
    return cache if config.set_timing_cache(cache, False) else None


def _describe(trt: Any, path: str) -> None:
    """Beside the engine, what TensorRT made of each layer: its type says what did not become int8."""
    if not hasattr(trt, "LayerInformationFormat"):
        return
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    with open(path, "rb") as file:
        engine = runtime.deserialize_cuda_engine(file.read())
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    _write(path + ".layers.json", text.encode("utf-8"))


def _write(path: str, content: bytes) -> None:
    """Whole or not at all."""
    beside = path + ".tmp"
    with open(beside, "wb") as file:
        file.write(content)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
