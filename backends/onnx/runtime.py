"""Run an ONNX file with ONNX Runtime's CPU provider on this host."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.scratch import WorkFolder

Array = np.ndarray[Any, Any]

_INTEGER = frozenset(
    {
        "QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "ConvInteger",
        "DynamicQuantizeMatMul", "QAttention",
    }
)  # fmt: skip
_FLOAT = frozenset(
    {
        "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul",
        "Attention", "MultiHeadAttention",
    }
)  # fmt: skip


_REWRITTEN = re.compile(r"(_token_\d+|_nchwc|_nhwc)+$")
"""What the optimizer appends to the name of a node that it rewrites."""


class OrtRunner:
    """A model file in ONNX Runtime.

    Attributes:
        describe: runtime, version and precision.
        inputs, outputs: tensor names in the file's order; exposed tensors come after the outputs.
    """

    describe: str

    def __init__(
        self,
        model: Path,
        threads: int | None = None,
        expose: tuple[str, ...] = (),
        *,
        integer: bool = True,
    ):
        """Load a file.

        Args:
            threads: number of threads within an operator; ONNX Runtime's choice if left out.
            expose: names of further tensors to return after the outputs.
            integer: whether operators between quantizers become integer kernels, where ONNX Runtime has them.

        Raises:
            ToolchainError: ONNX Runtime is not installed, or refuses the file.
            ArtifactError: the file does not exist, or has no tensor of a name in ``expose``.
        """
        if not model.is_file():
            raise ArtifactError(f"there is no model file {model}")
        self._ort = _onnxruntime()
        self._model, self._threads, self._integer = model, threads, integer
        source, added = _with_outputs(model, expose) if expose else (str(model), 0)
        self._session = self._start(source, self._options())
        self.inputs = tuple(i.name for i in self._session.get_inputs())
        self._names = [o.name for o in self._session.get_outputs()]
        self.outputs = (*self._names[: len(self._names) - added], *expose)
        self.describe = f"ONNX Runtime {self._ort.__version__}, CPU, f32"

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the file's order."""
        found = dict(zip(self._names, self._session.run(None, dict(zip(self.inputs, inputs)))))
        return [found[name] for name in self.outputs]

    def kernels(self) -> list[Kernel]:
        """Every multiplying kernel of the graph that ONNX Runtime's optimizer leaves."""
        import onnx

        with WorkFolder("ort") as directory:
            path = Path(directory) / "optimized.onnx"
            options = self._options()
            options.optimized_model_filepath = str(path)
            # A warning says that the optimized graph is for this machine only, which is the point here.
            options.log_severity_level = 3
            try:
                self._start(str(self._model), options)
            except ToolchainError:
                # The model loaded before, and the library does not say when a disk is full: writing as much does.
                (Path(directory) / "probe").write_bytes(self._model.read_bytes())
                raise
            graph = onnx.load(path, load_external_data=False).graph
        return [_kernel(node) for node in graph.node if node.op_type in _INTEGER | _FLOAT]

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        folder = str(self._model.resolve().parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        if not self._integer:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return options

    def _start(self, source: str | bytes, options: Any) -> Any:
        try:
            return self._ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ToolchainError(f"ONNX Runtime cannot load {self._model}", why=str(error).strip()) from error


def _kernel(node: Any) -> Kernel:
    return Kernel(
        layer=_REWRITTEN.sub("", node.name or node.output[0]).split("/")[0],
        op=node.op_type,
        implementation=node.op_type,
        integer=node.op_type in _INTEGER,
    )


def _with_outputs(path: Path, names: tuple[str, ...]) -> tuple[bytes, int]:
    """The model with further outputs, and how many were added; weights in external files stay there."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    known = {output for node in model.graph.node for output in node.output}
    missing = [name for name in names if name not in known]
    if missing:
        raise ArtifactError(f"{path} has no tensor {missing[0]!r}")
    present = {output.name for output in model.graph.output}
    added = [name for name in dict.fromkeys(names) if name not in present]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    return model.SerializeToString(), len(added)


def _onnxruntime() -> Any:
    # Its builds may report usage over the network, from the moment of import. A compiler has no business doing that.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise ToolchainError("ONNX Runtime is not installed", fix="pip install 'fxc[cpu]'") from error
    return onnxruntime
