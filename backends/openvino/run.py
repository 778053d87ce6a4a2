"""Run an emitted file with OpenVINO on this host's CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.target import Target

Array = np.ndarray[Any, Any]

_MULTIPLY = frozenset(
    {"Convolution", "Deconvolution", "GroupConvolution", "FullyConnected", "MatMul", "Gemm"}
)
_DEQUANTIZES = frozenset({"Multiply", "Subtract", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})


def load(
    model: Path,
    target: Target,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> OpenVinoRunner:
    """Load a model file.

    Args:
        precision: ``INFERENCE_PRECISION_HINT``: what float operators compute in, ``"f32"`` or ``"bf16"``. Defaults to
            the target's. It is always set: OpenVINO's own default depends on the machine.
        threads: number of threads; OpenVINO's choice if left out.
        expose: names of further tensors to return after the outputs.

    Raises:
        ToolchainError: OpenVINO is not installed, or refuses the file.
        ArtifactError: the file does not exist, or has no tensor of a name in ``expose``.
    """
    if not model.is_file():
        raise ArtifactError(f"there is no model file {model}")
    hint = precision or target.options.get("precision", "f32")
    return OpenVinoRunner(model, hint, threads, tuple(expose))


class OpenVinoRunner:
    """A model file in OpenVINO; compiled for each input shape on first use, so that timings are static-shape ones.

    Attributes:
        describe: runtime, version and precision hint.
        inputs, outputs: tensor names in the file's order; exposed tensors come after the outputs.
    """

    def __init__(self, model: Path, precision: str, threads: int | None, expose: tuple[str, ...]):
        ov = _openvino()
        self._core = ov.Core()
        self._properties = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = str(threads)
        self._model = _read(self._core, model)
        own = [port.any_name for port in self._model.outputs]
        _expose(self._model, expose, model)
        self.inputs = tuple(port.any_name for port in self._model.inputs)
        self.outputs = (*own, *expose)
        places = {name: i for i, port in enumerate(self._model.outputs) for name in port.names}
        self._places = [places[name] for name in self.outputs]
        self.describe = f"OpenVINO {ov.__version__.split('-')[0]}, CPU, {precision} hint"
        self._compiled: dict[tuple[tuple[int, ...], ...], Any] = {}
        self._last: Any = None

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the file's order."""
        request = self._request(tuple(tuple(x.shape) for x in inputs))
        request.infer(list(inputs))
        return [np.array(request.get_output_tensor(i).data) for i in self._places]

    def kernels(self) -> list[Kernel]:
        """Every multiplying kernel of the model as compiled last, or for batch 1 if it never ran.

        Attention runs as one kernel for its two products and the softmax: it is listed for each of the products.

        ``primitiveType`` decides, not ``runtimePrecision``: the latter is the input's type, which a float kernel
        behind a conversion has too. It ends in ``_I8`` for u8 and in ``_i8`` for i8 inputs.
        """
        if self._last is None:
            self._request(tuple(_fixed_shape(port) for port in self._model.inputs))
        operators = self._last.get_compiled_model().get_runtime_model().get_ordered_ops()
        products = _products(self._model)
        return [kernel for op in operators for kernel in _kernels(op, self._facts(op), products)]

    @staticmethod
    def _facts(op: Any) -> dict[str, str]:
        return {key: value.astype(str) for key, value in op.get_rt_info().items()}

    def _request(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        if shapes not in self._compiled:
            model = self._model
            if model.is_dynamic():
                model = model.clone()
                model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes)})
            compiled = self._core.compile_model(model, "CPU", self._properties)
            self._compiled[shapes] = compiled.create_infer_request()
        self._last = self._compiled[shapes]
        return self._last


def _kernels(op: Any, facts: dict[str, str], products: Mapping[str, bool]) -> Iterator[Kernel]:
    """The layers that one node of the compiled model multiplies for.

    Args:
        products: as :func:`_products` finds them.
    """
    kind, primitive = facts.get("layerType", op.get_type_name()), facts.get("primitiveType", "")
    names = facts.get("originalLayersNames", op.get_friendly_name()).split(",")
    integer = primitive.lower().endswith("_i8")
    implementation = f"{primitive} -> {facts.get('outputPrecisions', '').split(',')[0]}"
    if kind in _MULTIPLY:
        yield Kernel(_layer(names[0]), kind, implementation, integer)
    elif kind == "Subgraph":
        # Its primitive names the type of its first input, which the second product of attention does not read.
        for name in names:
            if name in products:
                yield Kernel(_layer(name), "MatMul", implementation, integer and products[name])


def _layer(name: str) -> str:
    # OpenVINO and our own lowering append "/<part>" to a layer's name, and OpenVINO "_original" to an output's.
    return name.split("/")[0].removesuffix("_original")


def _products(model: Any) -> dict[str, bool]:
    """Matrix products by name, and whether both operands are codes."""
    return {
        op.get_friendly_name(): all(_is_coded(op.input_value(i)) for i in range(2))
        for op in model.get_ordered_ops()
        if op.get_type_name() == "MatMul"
    }


def _is_coded(value: Any) -> bool:
    """Whether a tensor comes straight out of a dequantization: ``Convert`` of integers, then ``Subtract``, ``Multiply``."""
    node = value.get_node()
    while node.get_type_name() in _DEQUANTIZES:
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Convert" and node.get_input_element_type(0).is_integral_number()


def _fixed_shape(port: Any) -> tuple[int, ...]:
    return tuple(1 if d.is_dynamic else d.get_length() for d in port.get_partial_shape())


def _read(core: Any, model: Path) -> Any:
    try:
        return core.read_model(model)
    except RuntimeError as error:
        raise ToolchainError(
            f"OpenVINO cannot read {model}", why=str(error).strip().splitlines()[-1]
        ) from error


def _expose(model: Any, names: tuple[str, ...], path: Path) -> None:
    for name in names:
        try:
            model.add_outputs(name)
        except RuntimeError as error:
            raise ArtifactError(f"{path} has no tensor {name!r}") from error


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ToolchainError("OpenVINO is not installed", fix="pip install 'fxc[cpu]'") from error
    return openvino
