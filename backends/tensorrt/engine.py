"""An engine of a bundle, built and run on this machine: where TensorRT and an NVIDIA GPU are. Not run against a real one.

The scripts that a bundle carries for its device do the work, out of this package: nothing from a bundle is executed.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fxc.backends.onnx.planned import planned
from fxc.backends.tensorrt.inspector import missed, read_layers
from fxc.backends.tensorrt.sparsity import sparse_layers
from fxc.compiler.device_engine import BuiltEngine
from fxc.compiler.errors import ToolchainError, UsageError
from fxc.compiler.files import regular_files
from fxc.compiler.scratch import WorkFolder

MODEL = "model.onnx"
ENGINE, LAYERS, LOG, OUTPUTS = "model.engine", "model.engine.layers.json", "engine.log", "outputs"
_BUILD, _RUN = "build_engine.py", "run_engine.py"
_READ = re.compile(r"[^/]*\.(onnx|onnx\.data|json|cache|txt)|golden/[^/]*\.safetensors")
_SECONDS = 4 * 3600
"""A large model on a small device builds for an hour; what takes longer hangs."""
_LAST_LINES = 8


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for.

    Attributes:
        batch: least, usual and largest, where the model's batch is dynamic.
        workspace_mib: memory that one layer may use while it runs.
        timing_cache: measurements of kernels, kept from build to build; by default in the user's cache folder.
        version_compatible: runs with later versions of TensorRT too.
        hardware_compatible: runs on newer GPUs than this one too; not on a Jetson.
    """

    batch: tuple[int, int, int] = (1, 1, 8)
    workspace_mib: int = 1024
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        if not (len(self.batch) == 3 and 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]):
            raise UsageError(f"a batch of {self.batch}", fix="least, usual and largest: (1, 1, 8)")
        if self.workspace_mib < 1:
            raise UsageError(f"a workspace of {self.workspace_mib} MiB", fix="1 or more")


@dataclass(frozen=True)
class Device:
    """What engines are built with here: TensorRT's version, the GPU's name."""

    tensorrt: str
    gpu: str


def device() -> Device:
    """What is here.

    Raises:
        ToolchainError: TensorRT's Python package or a GPU is missing.
    """
    try:
        version = str(importlib.import_module("tensorrt").__version__)
    except (ImportError, OSError) as error:  # its own libraries may be missing
        raise ToolchainError(
            "no engine can be built here: TensorRT's Python package is missing",
            why=str(error),
            fix="on a Jetson JetPack brings it (python3-libnvinfer); elsewhere pip install tensorrt",
        ) from error
    return Device(version, _gpu())


def build(bundle: Path, folder: Path, options: EngineOptions | None = None) -> BuiltEngine:
    """Build the engine of a bundle into ``folder``, run it on the recorded inputs, and read what its layers compute in.

    Args:
        bundle: whose hashes were checked.
        folder: new, empty, or left by a build that failed; afterwards it holds the engine, its answers and a log.

    Raises:
        ToolchainError: TensorRT or a GPU is missing, or one of the steps failed: with its last lines.
        UsageError: the folder holds something.
    """
    found, chosen = device(), options or EngineOptions()
    if folder.exists() and {path.name for path in folder.iterdir()} - {LOG}:
        raise UsageError(f"{folder} holds something", fix="a new or an empty folder for the engine")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).unlink(missing_ok=True)
    cache = chosen.timing_cache or _timing_cache(found)
    cache.parent.mkdir(parents=True, exist_ok=True)
    work = WorkFolder("engine")
    try:
        place = _linked(bundle, Path(work.name))
        engine, outputs = (folder / ENGINE).absolute(), (folder / OUTPUTS).absolute()
        said = _step(place / _BUILD, _words(bundle, engine, cache.absolute(), chosen), folder / LOG)
        model = place / _built_from(said)
        _step(place / _RUN, ["--engine", str(engine), "--output", str(outputs)], folder / LOG)
        return _described(model, engine, outputs, found)
    finally:
        work.cleanup()


def _words(bundle: Path, engine: Path, cache: Path, options: EngineOptions) -> list[str]:
    words = ["--output", str(engine), "--timing-cache", str(cache), "--workspace", str(options.workspace_mib)]
    words += ["--batch", *map(str, options.batch)]
    # Every form of a model has the same zeros.
    if any(any(sparse_layers(model).values()) for model in sorted(bundle.glob("*.onnx"))[:1]):
        words.append("--sparse")
    words += ["--version-compatible"] if options.version_compatible else []
    return words + (["--hardware-compatible"] if options.hardware_compatible else [])


def _described(model: Path, engine: Path, outputs: Path, found: Device) -> BuiltEngine:
    tools = {"tensorrt": found.tensorrt, "gpu": found.gpu}
    description = engine.with_name(LAYERS)
    if not description.is_file():
        why = f"TensorRT {found.tensorrt} does not describe engines: what their layers compute in is unknown"
        return BuiltEngine(engine, outputs, said=(why,), tools=tools)
    layers = read_layers(description)
    # What the accelerator is built from has no quantizers; the file beside it has the same ones for this host.
    asked = _asked(model) or _asked(model.with_name(MODEL))
    return BuiltEngine(engine, outputs, layers, missed(layers, asked), (f"built from {model.name}",), tools)


def _asked(model: Path) -> list[str]:
    return [kernel.layer for kernel in planned(model) if kernel.integer] if model.is_file() else []


def _built_from(said: str) -> str:
    found = re.search(r"building from (\S+)", said)
    if found is None:
        raise ToolchainError(f"{_BUILD} does not say what it built from", why=_end(said))
    return found[1]


def _linked(bundle: Path, place: Path) -> Path:
    """A folder with this package's scripts and links to what they read: nothing that Python could import from there."""
    for name in regular_files(bundle):
        if _READ.fullmatch(name):
            link = place / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((bundle / name).absolute())
    for name in (_BUILD, _RUN):
        (place / name).write_bytes((files("fxc.backends.tensorrt.kit") / name).read_bytes())
    return place


def _step(script: Path, words: Sequence[str], log: Path) -> str:
    """Run a script in a process of its own, for TensorRT may end the process; what it says is returned and logged."""
    try:
        done = subprocess.run(
            [sys.executable, str(script), *words],
            cwd=script.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f"{script.name} took longer than {_SECONDS // 3600} hours", where=str(log)
        ) from error
    said = done.stdout.decode("utf-8", errors="replace")
    with log.open("a", encoding="utf-8") as file:
        file.write(said)
    if done.returncode:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise ToolchainError(
            f"{script.name} failed with {how}", where=str(log), why=_end(said) or "it said nothing"
        )
    return said


def _end(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-_LAST_LINES:])


def _timing_cache(found: Device, environment: Mapping[str, str] = os.environ) -> Path:
    """One file per version and GPU, for TensorRT takes no other's."""
    base = environment.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"timing-{found.tensorrt}-{found.gpu}")
    return root / "fxc" / "tensorrt" / f"{name}.cache"


def _gpu() -> str:
    """The first GPU's name, by the CUDA driver.

    Raises:
        ToolchainError: no driver or no device.
    """
    cuda, count, handle = _driver(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGetCount(ctypes.byref(count))
        or (0 if count.value else -1)
        or cuda.cuDeviceGet(ctypes.byref(handle), 0)
        or cuda.cuDeviceGetName(name, len(name), handle)
    )
    if failed:
        raise ToolchainError(
            "no engine can be built here: there is no CUDA device",
            why="the driver finds none" if failed == -1 else f"the CUDA driver gave error {failed}",
        )
    return name.value.decode("utf-8", errors="replace")


def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise ToolchainError(
            "no engine can be built here: there is no CUDA driver", why=str(error), fix="run it on the device"
        ) from error
