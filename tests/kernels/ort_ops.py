"""Run one ONNX operator, or a small graph, in ONNX Runtime: the judge of these tests, which shares no code with them."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
ON_X86 = platform.machine().lower() in {"x86_64", "amd64"}
Arrays = Mapping[str, np.ndarray]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: Arrays,
    constants: Arrays,
    outputs: Mapping[str, Any],
    opset: int = 19,
) -> onnx.ModelProto:
    """A model whose inputs are ``feeds`` and whose initializers are ``constants``; ``outputs``: name -> numpy dtype."""
    elem = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        list(nodes),
        "op",
        [helper.make_tensor_value_info(k, elem(v.dtype), v.shape) for k, v in feeds.items()],
        [helper.make_tensor_value_info(k, elem(np.dtype(v)), None) for k, v in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10 if opset > 19 else 9)


def session_of(model: onnx.ModelProto, optimized_to: Path | None = None) -> ort.InferenceSession:
    """A single-threaded session; unless the optimized model is asked for, every node runs as it is written.

    Q/DQ fusion is allowed for int8 activations too: ONNX Runtime leaves it off on x86, where it is slow.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized_to is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(optimized_to)
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run_op(
    op: str,
    inputs: Sequence[Any],
    dtype: Any,
    *,
    constant: Sequence[int] = (),
    opset: int = 19,
    domain: str = "",
    **attributes: Any,
) -> np.ndarray:
    """One node on these inputs (None: left out); those whose index is in ``constant`` become initializers."""
    names = ["" if value is None else f"in{i}" for i, value in enumerate(inputs)]
    present = {n: np.asarray(v) for n, v in zip(names, inputs) if v is not None}
    constants = {n: v for n, v in present.items() if int(n[2:]) in constant}
    feeds = {n: v for n, v in present.items() if n not in constants}
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    return session_of(model_of([node], feeds, constants, {"y": dtype}, opset)).run(None, feeds)[0]


def codes(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    """Uniform codes over the whole range of ``dtype``."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def weights(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    """Weight codes over the whole range, or over 7 bits where this host's int8 instructions would saturate."""
    return codes(rng, dtype, *shape) // (4 if products_saturate() else 1)


@functools.cache
def products_saturate() -> bool:
    """Whether MatMulInteger is wrong here: x86 before VNNI adds pairs of u8 * s8 products in saturating int16."""
    x, w = np.full((1, 64), 255, np.uint8), np.full((64, 1), 127, np.int8)
    got = run_op("MatMulInteger", [x, w, np.uint8(0), np.int8(0)], np.int32, constant=(1, 3))
    return int(got[0, 0]) != 64 * 255 * 127


def zero_point(dtype: Any, value: int) -> np.ndarray:
    """A zero point as ONNX wants it: 0-d, of the codes' dtype."""
    return np.array(value, dtype)


def exact_ties(values: np.ndarray) -> int:
    """How many values lie exactly between two integers."""
    return int(np.count_nonzero(np.abs(np.modf(values)[0]) == 0.5))


def op_types(path: Path) -> set[str]:
    """The operators in a model file."""
    return {node.op_type for node in onnx.load(path).graph.node}
