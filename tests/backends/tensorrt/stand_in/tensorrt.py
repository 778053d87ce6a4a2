"""A stand-in for TensorRT 10 whose "engine" is the path of its ONNX file and computes with ONNX Runtime; not the real one.

It has the calls that ``build_engine.py`` and ``run_engine.py`` make, by the names of the documentation, and writes what it was
asked for into ``FXC_TEST_ASKED``. Device memory is the host's: importing it hands out a ``libcudart`` of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

__version__ = os.environ.get("FXC_TEST_TENSORRT", "10.3.0")
asked: list[Any] = []


class _Names:
    def __getattr__(self, name: str) -> str:
        return name


BuilderFlag, MemoryPoolType, ProfilingVerbosity = _Names(), _Names(), _Names()
LayerInformationFormat, TensorIOMode = _Names(), _Names()
NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
nptype = np.dtype


class Logger:
    """Says nothing."""

    VERBOSE = INFO = WARNING = ERROR = 0

    def __init__(self, level: int) -> None:
        pass


class Cache:
    """Of timings."""

    def serialize(self) -> bytes:
        return b"timings"


class Config:
    """Of a build."""

    def set_flag(self, flag: str) -> None:
        asked.append(["flag", flag])

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        asked.append(["memory", size])

    def create_timing_cache(self, content: bytes) -> Cache:
        asked.append(["cache", len(content)])
        return Cache()

    def set_timing_cache(self, cache: Cache, ignore: bool) -> bool:
        return True

    def get_timing_cache(self) -> Cache:
        return Cache()

    def add_optimization_profile(self, profile: Any) -> None:
        pass


class Profile:
    """Shapes."""

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        asked.append(["shape", name, shapes])


class Network:
    """What a parser fills."""

    def __init__(self) -> None:
        self.path = ""

    @property
    def num_inputs(self) -> int:
        return len(self._inputs())

    def get_input(self, index: int) -> Any:
        return self._inputs()[index]

    def _inputs(self) -> list[Any]:
        session = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        shapes = {
            i.name: tuple(d if isinstance(d, int) else -1 for d in i.shape) for i in session.get_inputs()
        }
        return [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]


class Builder:
    """Of engines."""

    def __init__(self, logger: Logger) -> None:
        self.network = Network()

    def create_network(self, flags: int) -> Network:
        return self.network

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        if "FXC_TEST_ASKED" in os.environ:
            with open(os.environ["FXC_TEST_ASKED"], "w") as file:
                json.dump([["parse", network.path], *asked], file)
        if os.environ.get("FXC_TEST_FAILS") == "abort":
            os.abort()
        if os.environ.get("FXC_TEST_FAILS") == "build":
            print("[E] no kernel for node_of_stem")
            return None
        return os.path.realpath(network.path).encode()


class OnnxParser:
    """Keeps the path."""

    num_errors = 0

    def __init__(self, network: Network, logger: Logger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.path = path
        return True


class Runtime:
    """Reads engines back."""

    def __init__(self, logger: Logger) -> None:
        pass

    def deserialize_cuda_engine(self, content: bytes) -> Engine:
        return Engine(content.decode())


class Engine:
    """An engine, its own context and its own inspector."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.types = {o.name: o.type for o in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.num_io_tensors = len(self.types)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.execution_context: Any = None

    def create_execution_context(self) -> Engine:
        return self

    def create_engine_inspector(self) -> Engine:
        return self

    def get_engine_information(self, form: str) -> str:
        return os.environ.get("FXC_TEST_LAYERS", '{"Layers": []}')

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> str:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return {"tensor(float)": "float32", "tensor(int64)": "int64"}[self.types[name]]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        shape = next(i.shape for i in self.session.get_inputs() if i.name == name)
        return [tuple(d if isinstance(d, int) else n for d in shape) for n in (1, 1, 8)]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if not self.shapes:
            shapes = {o.name: o.shape for o in (*self.session.get_inputs(), *self.session.get_outputs())}
            return tuple(d if isinstance(d, int) else -1 for d in shapes[name])
        if name in self.shapes:
            return self.shapes[name]
        return self._run({n: np.zeros(s, np.float32) for n, s in self.shapes.items()})[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        feed = {name: self._at(name, shape) for name, shape in self.shapes.items()}
        for name, value in self._run(feed).items():
            content = np.ascontiguousarray(value)
            ctypes.memmove(self.addresses[name], content.ctypes.data, content.nbytes)
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        raw = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[name])
        return np.frombuffer(raw, np.float32).reshape(shape)

    def _run(self, feed: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.outputs, self.session.run(self.outputs, feed)))


class HostMemory:
    """Plays ``libcudart``."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def cudaMalloc(self, pointer: Any, size: Any) -> int:
        block = ctypes.create_string_buffer(max(size.value, 1))
        self.held.append(block)
        pointer._obj.value = ctypes.addressof(block)
        return 0

    def cudaMemcpy(self, to: Any, source: Any, size: Any, kind: int) -> int:
        ctypes.memmove(to, source, size.value)
        return 0

    def cudaDeviceSynchronize(self) -> int:
        return 0

    def cudaFree(self, pointer: Any) -> int:
        return 0


_load = ctypes.CDLL


def _library(name: Any, *words: Any, **more: Any) -> Any:
    return HostMemory() if name and "cudart" in str(name) else _load(name, *words, **more)


ctypes.CDLL = _library  # type: ignore[assignment,misc]
