"""Execute on this host: the ONNX file in ONNX Runtime, or the ``.rknn`` in the toolkit's x86 simulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.backends.onnx.planned import planned
from fxc.backends.onnx.runtime import OrtRunner
from fxc.backends.rknn.build import simulate
from fxc.backends.rknn.layers import kernels, layers
from fxc.backends.rknn.names import LOG, MODEL
from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.target import Target

Array = np.ndarray[Any, Any]


def load(
    model: Path,
    target: Target,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> FileRunner | Simulator:
    """Load ``model.onnx``, or ``model.rknn`` with the ONNX file beside it.

    Args:
        precision: ``"f32"`` or ``None``: float operators compute in float32 in ONNX Runtime, as the toolkit says in the simulator.
        threads: number of threads within an operator of ONNX Runtime.
        expose: names of further tensors of the ONNX file to return after the outputs.

    Raises:
        ToolchainError: ONNX Runtime or the toolkit is not installed, or refuses the file.
        ArtifactError: the file does not exist, or has no tensor of a name in ``expose``.
    """
    if precision not in (None, "f32"):
        raise ToolchainError(f"there is no inference precision {precision!r} for RKNN files", fix="f32")
    if model.suffix == ".rknn":
        return Simulator(model, target)
    return FileRunner(model, threads, tuple(expose))


class FileRunner(OrtRunner):
    """The ONNX file in ONNX Runtime: what the NPU is meant to compute."""

    def __init__(self, model: Path, threads: int | None = None, expose: tuple[str, ...] = ()):
        # Codes between float operators, as the quantized graph has them; its own integer kernels round some elsewhere.
        super().__init__(model, threads, expose, integer=False)
        self.describe = f"{self.describe}, in the place of the NPU"

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs; of a batch, sample by sample."""
        return _joined([super(FileRunner, self).__call__(sample) for sample in samples_of(inputs)])

    def kernels(self) -> list[Kernel]:
        """Every layer that multiplies, as the toolkit's compiler tells; before a build, what the file asks for."""
        return _kernels(self._model.parent)


class Simulator:
    """RKNN-Toolkit2's x86 simulator: builds the file again from the ONNX beside it, and runs that."""

    def __init__(self, model: Path, target: Target):
        if not model.is_file():
            raise ArtifactError(f"there is no model file {model}")
        self._folder, self._target = model.parent, target
        self.describe = f"RKNN-Toolkit2's simulator of {target.options['platform'].upper()}"

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the file's order; of a batch, sample by sample."""
        return _joined(simulate(self._folder, self._target, samples_of(inputs)))

    def kernels(self) -> list[Kernel]:
        """Every layer that multiplies, as the toolkit's compiler tells."""
        return _kernels(self._folder)


def _kernels(folder: Path) -> list[Kernel]:
    found = layers(folder / LOG)
    return kernels(found) if found else planned(folder / MODEL, "; nothing was built")


def samples_of(inputs: Sequence[Array]) -> list[list[Array]]:
    """The samples of a batch, each with a leading axis of 1."""
    count = max((len(x) for x in inputs if x.ndim), default=1)
    return [[x[i : i + 1] if x.ndim and len(x) == count else x for x in inputs] for i in range(count)]


def _joined(answers: Sequence[Sequence[Array]]) -> list[Array]:
    if len(answers) == 1:
        return list(answers[0])
    return [np.concatenate(parts) for parts in zip(*answers)]
