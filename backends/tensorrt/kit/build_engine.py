#!/usr/bin/env python3
"""Build a TensorRT engine out of this folder, on the device that will run it. Needs the device's own `tensorrt` only.

    python3 build_engine.py [--output FILE] [--batch MIN OPT MAX] [--workspace MIB] [--timing-cache FILE]
                            [--dla CORE]

Runs on Python 3.6 and newer, with TensorRT 8.x, 10.x and 11.x. What the folder is for stands in build.json.
Engine and timing cache go into a folder beside this one, FOLDER.device.
"""

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
MADE = HERE + ".device"  # beside the bundle, to which nothing may be added
FIRST_TYPED = 11


def main() -> None:
    """Read the arguments, build, write."""
    options = _arguments()
    try:
        import tensorrt as trt
    except ImportError:
        sys.exit("TensorRT's Python package is not here; JetPack brings it (python3-libnvinfer)")
    version = _version(trt)
    if version < (8,):
        sys.exit(f"TensorRT {trt.__version__} is too old: 8.0 or newer is needed")
    plan = _plan(options)
    path = os.path.join(HERE, options.onnx or _file(plan, version))
    print(f"TensorRT {trt.__version__}: building from {os.path.basename(path)}")
    built = _build(trt, path, plan, options)
    _write(options.output, bytes(built))
    print(f"wrote {options.output} ({os.path.getsize(options.output)} bytes)")
    _describe(trt, options.output, options.batch[1])


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description="Build a TensorRT engine out of this folder.")
    parser.add_argument("--onnx", help="another file of this folder")
    parser.add_argument("--output", default=os.path.join(MADE, "model.engine"))
    parser.add_argument(
        "--batch",
        type=int,
        nargs=3,
        default=(1, 1, 8),
        metavar=("MIN", "OPT", "MAX"),
        help="of a dynamic batch",
    )
    parser.add_argument("--workspace", type=int, default=1024, help="MiB that a layer may use while it runs")
    parser.add_argument("--timing-cache", default=os.path.join(MADE, "timing.cache"))
    parser.add_argument("--sparse", action="store_true", help="the weights are 2:4 sparse")
    parser.add_argument(
        "--version-compatible", action="store_true", help="for later versions of TensorRT too"
    )
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="for other GPUs from Ampere on; not for Jetson"
    )
    parser.add_argument(
        "--dla", type=int, metavar="CORE", help="core of the accelerator, of a bundle for it [0]"
    )
    return parser.parse_args()


def _version(trt: Any) -> Tuple[int, ...]:
    """The numbers in front: what follows them may be a build's own words."""
    numbers = []
    for part in trt.__version__.split(".")[:3]:
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _plan(options: Any) -> Dict[str, Any]:
    try:
        with open(os.path.join(HERE, "build.json")) as file:
            plan = json.load(file)  # type: Dict[str, Any]
    except (OSError, ValueError) as error:
        sys.exit(f"{error}: copy the whole bundle to the device")
    if options.dla is not None and plan["dla"] is None:
        sys.exit("this bundle is for the GPU: compile the model for jetson-int8-dla")
    return plan


def _file(plan: Dict[str, Any], version: Tuple[int, ...]) -> str:
    for entry in plan["files"]:
        if version >= tuple(entry["from"]) and (entry["below"] is None or version < tuple(entry["below"])):
            return str(entry["onnx"])
    files = ", ".join(f"{e['onnx']} from {'.'.join(map(str, e['from']))}" for e in plan["files"])
    made = f"; it is made for {plan['made_for']}" if plan["made_for"] else ""
    sys.exit(
        f"this bundle has no file for TensorRT {'.'.join(map(str, version))} (it has {files}){made}: "
        f"compile the model with --tensorrt {'.'.join(map(str, version[:2]))}"
    )


def _build(trt: Any, path: str, plan: Dict[str, Any], options: Any) -> Any:
    major = _version(trt)[0]
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
    for flag in _flags(major, plan, options):
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if hasattr(trt, "ProfilingVerbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.hardware_compatible:
        config.hardware_compatibility_level = _level(trt)
    _set_profile(builder, network, config, options.batch)
    # The configuration does not keep the calibrator: this name does.
    calibrator = (
        _use_dla(trt, builder, network, config, plan["dla"], options.dla or 0) if plan["dla"] else None
    )
    cache = _load_cache(config, options.timing_cache)
    built = builder.build_serialized_network(network, config)
    del calibrator
    if built is None:
        sys.exit("TensorRT could not build an engine; its messages are above")
    if cache is not None:
        _write(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return built


def _flags(major: int, plan: Dict[str, Any], options: Any) -> List[str]:
    """From 11 on, a network computes in the types that its file names: there are no flags for them."""
    flags = [] if major >= FIRST_TYPED else ["FP16", "INT8"] if plan["int8"] else ["FP16"]
    flags += ["GPU_FALLBACK"] if plan["dla"] else []
    flags += ["PREFER_PRECISION_CONSTRAINTS"] if plan["dla"] and major < FIRST_TYPED else []
    flags += ["SPARSE_WEIGHTS"] if options.sparse else []
    return flags + (["VERSION_COMPATIBLE"] if options.version_compatible else [])


def _use_dla(trt: Any, builder: Any, network: Any, config: Any, files: Dict[str, str], core: int) -> Any:
    """Run on a core of the accelerator what it takes, the rest on the GPU; up to 10.x with scales from the cache.

    Returns:
        The calibrator, ``None`` from 11 on: the file has the scales there.
    """
    if not 0 <= core < builder.num_DLA_cores:
        sys.exit(f"there is no DLA core {core} here; this device has {builder.num_DLA_cores}")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    if _version(trt)[0] >= FIRST_TYPED or not files["cache"]:
        return None
    with open(os.path.join(HERE, files["layers"])) as file:
        precisions = dict(entry.rsplit(":", 1) for entry in file.read().strip().split(",") if entry)
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        if precisions.get(layer.name) == "fp16":
            layer.precision = trt.float16
    calibrator = _calibrator(trt, os.path.join(HERE, files["cache"]))
    config.int8_calibrator = calibrator
    return calibrator


def _calibrator(trt: Any, path: str) -> Any:
    """A calibrator that has no data: the scales were found when the model was compiled."""
    with open(path, "rb") as file:
        _, _, scales = file.read().partition(b"\n")
    head = f"TRT-{_number(_version(trt))}-EntropyCalibration2\n".encode("ascii")

    class Cached(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Any) -> Any:
            return None

        def read_calibration_cache(self) -> bytes:
            return head + scales

        def write_calibration_cache(self, cache: Any) -> None:
            pass

    return Cached()


def _number(version: Tuple[int, ...]) -> int:
    """The version as NvInferVersion.h has it: 8502, 100300."""
    major, minor, patch = (tuple(version) + (0, 0))[:3]
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def _level(trt: Any) -> Any:
    if not hasattr(trt, "HardwareCompatibilityLevel"):
        sys.exit(f"--hardware-compatible needs TensorRT 8.6 or newer, this is {trt.__version__}")
    return trt.HardwareCompatibilityLevel.AMPERE_PLUS


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


def _describe(trt: Any, path: str, batch: int) -> None:
    """Beside the engine, what TensorRT made of each layer: its type says what did not become int8."""
    if not hasattr(trt, "LayerInformationFormat"):
        return
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    with open(path, "rb") as file:
        engine = runtime.deserialize_cuda_engine(file.read())
    inspector, context = engine.create_engine_inspector(), _shaped(trt, engine, batch)
    if context is not None:
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    _write(path + ".layers.json", text.encode("utf-8"))


def _shaped(trt: Any, engine: Any, batch: int) -> Any:
    """A context with a batch: without one the inspector is silent about shapes. Before 8.5 tensors go by number: ``None``."""
    if not hasattr(engine, "num_io_tensors"):
        return None
    context = engine.create_execution_context()
    for name in [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]:
        shape = tuple(engine.get_tensor_shape(name))
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and -1 in shape:
            context.set_input_shape(name, tuple(batch if d == -1 else d for d in shape))
    return context


def _write(path: str, content: bytes) -> None:
    """Whole or not at all."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    beside = path + ".tmp"
    with open(beside, "wb") as file:
        file.write(content)
    os.replace(beside, path)


if __name__ == "__main__":
    main()
