"""Any file that OpenVINO reads, reshaped to static shapes: outputs, timing and integer coverage, counted alike for all."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_TRANSPOSED = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
_CONVOLUTION = ("Convolution", "GroupConvolution")
_ATTENTION = "ScaledDotProductAttention"
_FUSED = "Subgraph"
_HANDS_ON = (
    "Multiply",
    "Subtract",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Gather",
    "VariadicSplit",
)


class OpenVinoFile:
    """A model file compiled for one input shape.

    Args:
        hint: ``INFERENCE_PRECISION_HINT``; what float operators compute in.
        static: ``False`` leaves the file's own dynamic dimensions.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], hint: str, threads: int, static: bool = True):
        import openvino

        core = openvino.Core()
        self.model = core.read_model(file)
        if static:
            self.model.reshape(list(shape))
        properties = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": str(threads),
        }
        self._request = core.compile_model(self.model, "CPU", properties).create_infer_request()

    def run(self, x: Array) -> None:
        """One inference, its output left where it is."""
        self._request.infer([x])

    def __call__(self, x: Array) -> Array:
        """The first output for one input."""
        self.run(x)
        return np.array(self._request.get_output_tensor(0).data)

    def coverage(self) -> Coverage:
        """Which multiply-accumulates the compiled model runs on integers."""
        runtime = self._request.get_compiled_model().get_runtime_model()
        integer = set(_integer_layers(runtime, _float_products(self.model)))
        work = {op.get_friendly_name(): macs(op) for op in self.model.get_ordered_ops()}
        work = {name: count for name, count in work.items() if count}
        covered = {name for name in work if name in integer or any(i.startswith(f"{name}/") for i in integer)}
        attention = {
            op.get_friendly_name() for op in self.model.get_ordered_ops() if op.get_type_name() == _ATTENTION
        }
        return Coverage(
            macs=sum(work.values()),
            # Within one attention operator the softmax has no quantizer: only the product of query and key is integer.
            integer=sum(work[name] // (2 if name in attention else 1) for name in covered),
            float_layers=tuple(name for name in work if name not in covered),
        )


@dataclass(frozen=True)
class Coverage:
    """Multiply-accumulates of a file: all, on integers, and the layers that compute in float."""

    macs: int
    integer: int
    float_layers: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """Integer share, ``None`` where nothing multiplies."""
        return self.integer / self.macs if self.macs else None


def macs(op: Any) -> int:
    """Multiply-accumulates of one OpenVINO operator with static shapes; 0 for what is not conv, matmul or attention."""
    kind = op.get_type_name()
    shape = [tuple(op.input(i).get_shape()) for i in range(min(2, op.get_input_size()))]
    if kind in _CONVOLUTION + _TRANSPOSED:
        # [(groups,) out, in, ...], and in and out swapped for a transposed convolution, which spreads its input.
        spread = shape[0] if kind in _TRANSPOSED else tuple(op.output(0).get_shape())
        return prod(spread) * prod(shape[1][2 if kind.startswith("Group") else 1 :])
    if kind == "MatMul":
        inner = -2 if op.get_attributes()["transpose_a"] and len(shape[0]) > 1 else -1
        return prod(op.output(0).get_shape()) * shape[0][inner]
    if kind == _ATTENTION:
        return 2 * prod(shape[0]) * shape[1][-2]
    return 0


def _integer_layers(runtime: Any, float_products: Collection[str]) -> Iterator[str]:
    """Layers in integer kernels, fused ones included.

    ``primitiveType`` ends in ``_I8`` for u8 and ``_i8`` for i8 inputs; ``runtimePrecision`` is only the input's type. Of a
    whole attention in one kernel it is the first input's.
    """
    for op in runtime.get_ordered_ops():
        facts = {key: value.astype(str) for key, value in op.get_rt_info().items()}
        if facts.get("primitiveType", "").lower().endswith("_i8"):
            layers = facts.get("originalLayersNames", op.get_friendly_name()).split(",")
            fused = facts.get("layerType") == _FUSED
            yield from (layer for layer in layers if not (fused and layer in float_products))


def _float_products(model: Any) -> set[str]:
    """Matrix products of which an operand does not come out of a quantizer."""
    found = (op for op in model.get_ordered_ops() if op.get_type_name() == "MatMul")
    return {
        op.get_friendly_name() for op in found if not all(_quantized(op.input_value(i)) for i in range(2))
    }


def _quantized(value: Any) -> bool:
    """Whether a tensor is quantized: a ``FakeQuantize``, or integers converted to float, moved and scaled."""
    node = value.get_node()
    while node.get_type_name() in _HANDS_ON:
        node = node.input_value(0).get_node()
    integers = node.get_type_name() == "Convert" and node.get_input_element_type(0).is_integral_number()
    return integers or node.get_type_name() == "FakeQuantize"


def default_hint() -> str:
    """OpenVINO's own precision hint on this machine."""
    import openvino

    return str(openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name())
