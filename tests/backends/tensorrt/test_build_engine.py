"""``build_engine.py`` against a stand-in for TensorRT: the real one needs the device's GPU, and is not run here.

The stand-in offers what each version's documentation names, no more, and writes down what it is asked for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fxc.backends.tensorrt.kit import copied

STAND_IN = """
import json, types
__version__ = "{version}"
MAJOR, MINOR = (int(n) for n in __version__.split(".")[:2])
asked = []

class Flags:
    def __init__(self, *names):
        for index, name in enumerate(names):
            setattr(self, name, name)

BuilderFlag = Flags(
    *(["FP16", "INT8", *(["PREFER_PRECISION_CONSTRAINTS"] if (MAJOR, MINOR) >= (8, 2) else [])] if MAJOR < 11 else []),
    "SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "GPU_FALLBACK",
)
DeviceType = types.SimpleNamespace(DLA="DLA", GPU="GPU")
TensorIOMode = types.SimpleNamespace(INPUT="input", OUTPUT="output")
float16 = "half"
if (MAJOR, MINOR) >= (8, 6):
    HardwareCompatibilityLevel = types.SimpleNamespace(AMPERE_PLUS="ampere+")
if MAJOR < 11:
    class IInt8EntropyCalibrator2:
        ready = False
        def __init__(self): self.ready = True
NetworkDefinitionCreationFlag = types.SimpleNamespace(EXPLICIT_BATCH=0)
ProfilingVerbosity = types.SimpleNamespace(DETAILED="detailed")
LayerInformationFormat = types.SimpleNamespace(JSON="json")
MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")

class Logger:
    WARNING = ERROR = 0
    def __init__(self, level): pass

class Cache:
    def serialize(self): return b"cache"

class Config:
    def set_flag(self, flag): asked.append(["flag", flag])
    def create_timing_cache(self, content): asked.append(["cache", len(content)]); return Cache()
    def set_timing_cache(self, cache, ignore): return True
    def get_timing_cache(self): return Cache()
    def add_optimization_profile(self, profile): pass
    if (MAJOR, MINOR) >= (8, 4):
        def set_memory_pool_limit(self, pool, size): asked.append(["memory", size])
    def __setattr__(self, name, value):
        if name == "int8_calibrator":
            assert MAJOR < 11 and isinstance(value, IInt8EntropyCalibrator2) and value.ready
            assert value.get_batch_size() > 0 and value.get_batch(["x"]) is None
            value = value.read_calibration_cache().decode()
        asked.append([name, value])

class Profile:
    def set_shape(self, name, *shapes): asked.append(["shape", name, shapes])

class Layer:
    def __init__(self, name): self.__dict__["name"] = name
    def __setattr__(self, name, value): asked.append([name, self.name, value])

class Network:
    num_inputs, num_layers = 1, 3
    def get_layer(self, index): return Layer(["conv1/Conv", "norm/Softmax", "(Unnamed Layer* 2)"][index])
    def get_input(self, index): return types.SimpleNamespace(name="x", shape=(-1, 3, 8, 8))

class Builder:
    num_DLA_cores = {cores}
    def __init__(self, logger): pass
    def create_network(self, flags): asked.append(["network", flags]); return Network()
    def create_builder_config(self): return Config()
    def create_optimization_profile(self): return Profile()
    def build_serialized_network(self, network, config):
        json.dump(asked, open("asked.json", "w"))
        return None if {fails} else b"engine"

class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): pass
    def parse_from_file(self, path): asked.append(["parse", path]); return "missing" not in path
    def get_error(self, index): return "node 3: unsupported"

class Runtime:
    def __init__(self, logger): pass
    def deserialize_cuda_engine(self, content): return self
    def create_engine_inspector(self): return Inspector()
    if (MAJOR, MINOR) >= (8, 5):
        num_io_tensors = 2
        def get_tensor_name(self, index): return "xy"[index]
        def get_tensor_shape(self, name): return (-1, 3, 8, 8)
        def get_tensor_mode(self, name): return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT
        def create_execution_context(self): return Context()

class Context:
    def set_input_shape(self, name, shape): self.shape = [name, shape]

class Inspector:
    execution_context = None
    def get_engine_information(self, form):
        return json.dumps({{"Layers": [], "Shape": getattr(self.execution_context, "shape", None)}})
"""

GPU = (
    copied.ForVersions("model.onnx", (8,), (11,), "up to 10"),
    copied.ForVersions("model.typed.onnx", (11,), None, "11", typed=True),
)
INT8, FP16 = copied.Plan(True, GPU), copied.Plan(False, GPU)
DLA = copied.Plan(
    True,
    (
        copied.ForVersions("model.dla.onnx", (8, 4), (10, 8), "up to 10.7"),
        copied.ForVersions("model.typed.onnx", (11, 4, 1), None, "from 11.4.1 on", typed=True),
    ),
    dla=copied.Accelerator("model.dla.cache", "model.dla.layers.txt", True),
)


def made(folder: Path) -> Path:
    """Where the script puts what it makes: a bundle takes no further files."""
    return folder.with_name(f"{folder.name}.device")


def build(
    folder: Path, version: str, *words: str, plan: copied.Plan = INT8, fails: bool = False, cores: int = 2
) -> Any:
    copied.copy_kit(folder, plan)
    (folder / "model.dla.cache").write_text("TRT-8500-EntropyCalibration2\nx: 3c010a14\n")
    (folder / "model.dla.layers.txt").write_text("norm/Softmax:fp16,gone:fp16")
    (folder / "tensorrt.py").write_text(STAND_IN.format(version=version, fails=fails, cores=cores))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "build_engine.py", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    asked = json.loads((folder / "asked.json").read_text()) if (folder / "asked.json").exists() else []
    return done, asked


@pytest.mark.parametrize(
    ("version", "file", "flags", "network"),
    [
        ("8.2.1", "model.onnx", ["FP16", "INT8"], 1),
        ("8.5.2", "model.onnx", ["FP16", "INT8"], 1),
        ("10.3.0", "model.onnx", ["FP16", "INT8"], 0),
        ("11.4.1", "model.typed.onnx", [], 0),
    ],
)
def test_each_version_gets_its_file_and_flags(
    tmp_path: Path, version: str, file: str, flags: list[str], network: int
) -> None:
    done, asked = build(tmp_path, version)
    assert done.returncode == 0, done.stderr
    assert [Path(a[1]).name for a in asked if a[0] == "parse"] == [file]
    assert [a[1] for a in asked if a[0] == "flag"] == flags
    assert ["network", network] in asked
    assert ["shape", "x", [[1, 3, 8, 8], [1, 3, 8, 8], [8, 3, 8, 8]]] in asked
    assert ["memory", 1 << 30] in asked or ["max_workspace_size", 1 << 30] in asked
    assert (made(tmp_path) / "model.engine").read_bytes() == b"engine"
    assert (made(tmp_path) / "timing.cache").read_bytes() == b"cache"
    shape = ["x", [1, 3, 8, 8]] if version != "8.2.1" else None
    assert json.loads((made(tmp_path) / "model.engine.layers.json").read_text()) == {
        "Layers": [],
        "Shape": shape,
    }


def test_fp16_sets_no_int8_flag(tmp_path: Path) -> None:
    _, asked = build(tmp_path, "10.3.0", plan=FP16)
    assert [a[1] for a in asked if a[0] == "flag"] == ["FP16"]


def test_options(tmp_path: Path) -> None:
    made(tmp_path).mkdir()
    (made(tmp_path) / "timing.cache").write_bytes(b"12345")
    words = [
        "--sparse",
        "--version-compatible",
        "--hardware-compatible",
        "--batch",
        "2",
        "4",
        "16",
        "--workspace",
        "64",
        "--output",
        "e",
    ]
    done, asked = build(tmp_path, "11.4.1", *words)
    assert done.returncode == 0, done.stderr
    assert [a[1] for a in asked if a[0] == "flag"] == ["SPARSE_WEIGHTS", "VERSION_COMPATIBLE"]
    assert ["cache", 5] in asked
    assert ["hardware_compatibility_level", "ampere+"] in asked
    assert ["memory", 64 << 20] in asked
    assert ["shape", "x", [[2, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8]]] in asked
    assert (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("version", "words", "fails", "said"),
    [
        ("7.1.3", (), False, "too old"),
        ("8.5.2", ("--onnx", "missing.onnx"), False, "node 3: unsupported"),
        ("8.5.2", (), True, "could not build"),
        ("8.5.2", ("--hardware-compatible",), False, "8.6 or newer"),
        ("8.5.2", ("--dla", "0"), False, "jetson-int8-dla"),
    ],
)
def test_failures_leave_no_engine(
    tmp_path: Path, version: str, words: tuple[str, ...], fails: bool, said: str
) -> None:
    done, _ = build(tmp_path, version, *words, fails=fails)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (made(tmp_path) / "model.engine").exists()


def test_without_tensorrt(tmp_path: Path) -> None:
    copied.copy_kit(tmp_path, INT8)
    done = subprocess.run(
        [sys.executable, "-S", "-I", "build_engine.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "JetPack" in done.stderr


@pytest.mark.parametrize(("version", "head"), [("8.5.2", "TRT-8502"), ("10.3.0.30", "TRT-100300")])
def test_the_accelerator_up_to_10(tmp_path: Path, version: str, head: str) -> None:
    """Scales from the cache under the device's own version, layers in float16 by name, the rest falls back to the GPU."""
    done, asked = build(tmp_path, version, "--dla", "1", plan=DLA)
    assert done.returncode == 0, done.stderr
    assert [Path(a[1]).name for a in asked if a[0] == "parse"] == ["model.dla.onnx"]
    assert [a[1] for a in asked if a[0] == "flag"] == [
        "FP16", "INT8", "GPU_FALLBACK", "PREFER_PRECISION_CONSTRAINTS"
    ]  # fmt: skip
    assert ["default_device_type", "DLA"] in asked
    assert ["DLA_core", 1] in asked
    assert [a for a in asked if a[0] == "precision"] == [["precision", "norm/Softmax", "half"]]
    assert ["int8_calibrator", f"{head}-EntropyCalibration2\nx: 3c010a14\n"] in asked


def test_the_accelerator_from_11_on(tmp_path: Path) -> None:
    done, asked = build(tmp_path, "11.4.1", plan=DLA)
    assert done.returncode == 0, done.stderr
    assert [Path(a[1]).name for a in asked if a[0] == "parse"] == ["model.typed.onnx"]
    assert [a[1] for a in asked if a[0] == "flag"] == ["GPU_FALLBACK"]
    assert ["DLA_core", 0] in asked
    assert not {"int8_calibrator", "precision"} & {a[0] for a in asked}


@pytest.mark.parametrize("version", ["8.2.1", "10.8.0", "10.13.3", "11.3.0", "11.4.0"])
def test_versions_without_the_accelerator(tmp_path: Path, version: str) -> None:
    done, asked = build(tmp_path, version, plan=DLA)
    assert done.returncode != 0
    assert f"no file for TensorRT {version}" in done.stderr
    assert asked == []


@pytest.mark.parametrize(("cores", "core"), [(0, 0), (2, 2), (1, -1)])
def test_a_core_that_is_not_there(tmp_path: Path, cores: int, core: int) -> None:
    done, _ = build(tmp_path, "8.5.2", "--dla", str(core), plan=DLA, cores=cores)
    assert done.returncode != 0
    assert f"no DLA core {core}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_for_one_version_names_another(tmp_path: Path) -> None:
    done, _ = build(tmp_path, "11.4.1", plan=copied.Plan(True, GPU[:1], made_for="JetPack 6.2"))
    assert done.returncode != 0
    assert "made for JetPack 6.2" in done.stderr
    assert "--tensorrt 11.4" in done.stderr


@pytest.mark.parametrize("content", [None, "{"])
def test_a_folder_that_is_not_whole(tmp_path: Path, content: str | None) -> None:
    build(tmp_path, "10.3.0")
    if content is None:
        (tmp_path / "build.json").unlink()
    else:
        (tmp_path / "build.json").write_text(content)
    done = subprocess.run(
        [sys.executable, "build_engine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "copy the whole bundle" in done.stderr
