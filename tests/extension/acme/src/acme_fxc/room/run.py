"""Acme's simulator: the reference evaluator of the onnx package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxc.compiler.backend import Kernel
from fxc.compiler.target import Target

Array = np.ndarray[Any, Any]


def load(
    model: Path,
    target: Target,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> "Simulator":
    """Load a model file; the simulator has one precision and one thread."""
    return Simulator(model)


class Simulator:
    """A model file in the reference evaluator."""

    def __init__(self, model: Path):
        import onnx.reference

        self.describe = f"onnx {onnx.__version__} reference evaluator, f32"
        self._session = onnx.reference.ReferenceEvaluator(str(model))

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the file's order."""
        found: list[Array] = self._session.run(None, dict(zip(self._session.input_names, inputs)))
        return found

    def kernels(self) -> list[Kernel]:
        """None: the evaluator has no kernels to tell of."""
        return []
