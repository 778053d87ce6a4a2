"""What a Q/DQ file asks a device to run in int8, where no runtime on this host can tell what it will do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fxc.compiler.backend import Kernel

_MULTIPLY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def planned(path: Path, words: str = "") -> list[Kernel]:
    """One kernel per layer that multiplies; integer where data and weights come out of dequantizers.

    Args:
        words: what follows ``int8 asked for`` or ``float asked for`` in each kernel's implementation.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    makers = {output: node for node in graph.node for output in node.output}
    return [_kernel(node, makers, words) for node in graph.node if node.op_type in _MULTIPLY]


def _kernel(node: Any, makers: dict[str, Any], words: str) -> Kernel:
    integer = all(_is_coded(name, makers) for name in node.input[:2])
    asked = "int8 asked for" if integer else "float asked for"
    return Kernel(
        (node.name or node.output[0]).split("/")[0], node.op_type, f"{asked}{words}", integer, planned=True
    )


def _is_coded(name: str, makers: dict[str, Any]) -> bool:
    node = makers.get(name)
    return node is not None and node.op_type == "DequantizeLinear"
