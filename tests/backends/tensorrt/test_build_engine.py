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

BuilderFlag = Flags(*(["FP16", "INT8"] if MAJOR < 11 else []), "SPARSE_WEIGHTS", "VERSION_COMPATIBLE")
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
    def __setattr__(self, name, value): asked.append([name, value])

class Profile:
    def set_shape(self, name, *shapes): asked.append(["shape", name, shapes])

class Network:
    num_inputs = 1
    def get_input(self, index): return types.SimpleNamespace(name="x", shape=(-1, 3, 8, 8))

class Builder:
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
    def create_engine_inspector(self): return self
    def get_engine_information(self, form): return '{{"Layers": []}}'
"""


def build(folder: Path, version: str, *words: str, fails: bool = False, precision: str = "int8") -> Any:
    copied.copy_kit(folder, quantized=True, dynamic={})
    (folder / "manifest.json").write_text(json.dumps({"target": {"precision": precision}}))
    (folder / "tensorrt.py").write_text(STAND_IN.format(version=version, fails=fails))
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
    assert (tmp_path / "model.engine").read_bytes() == b"engine"
    assert (tmp_path / "timing.cache").read_bytes() == b"cache"
    assert json.loads((tmp_path / "model.engine.layers.json").read_text()) == {"Layers": []}


def test_fp16_sets_no_int8_flag(tmp_path: Path) -> None:
    _, asked = build(tmp_path, "10.3.0", precision="fp16")
    assert [a[1] for a in asked if a[0] == "flag"] == ["FP16"]


def test_options(tmp_path: Path) -> None:
    (tmp_path / "timing.cache").write_bytes(b"12345")
    words = [
        "--sparse",
        "--version-compatible",
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
    assert ["memory", 64 << 20] in asked
    assert ["shape", "x", [[2, 3, 8, 8], [4, 3, 8, 8], [16, 3, 8, 8]]] in asked
    assert (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("version", "words", "fails", "said"),
    [
        ("7.1.3", (), False, "too old"),
        ("8.5.2", ("--onnx", "missing.onnx"), False, "node 3: unsupported"),
        ("8.5.2", (), True, "could not build"),
    ],
)
def test_failures_leave_no_engine(
    tmp_path: Path, version: str, words: tuple[str, ...], fails: bool, said: str
) -> None:
    done, _ = build(tmp_path, version, *words, fails=fails)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.engine").exists()


def test_without_tensorrt(tmp_path: Path) -> None:
    copied.copy_kit(tmp_path, quantized=True, dynamic={})
    done = subprocess.run(
        [sys.executable, "-S", "-I", "build_engine.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "JetPack" in done.stderr
