"""Execute an emitted file on this host: ONNX Runtime computes what TensorRT is meant to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fxc.backends.onnx.planned import planned
from fxc.backends.onnx.runtime import OrtRunner
from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ToolchainError
from fxc.compiler.target import Target


def load(
    model: Path,
    target: Target,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> SimulatedEngine:
    """Load a model file.

    Args:
        precision: ``"f32"`` or ``None``: float operators compute in the file's own types.
        threads: number of threads within an operator.
        expose: names of further tensors to return after the outputs.

    Raises:
        ToolchainError: ONNX Runtime is not installed, refuses the file, or cannot compute in ``precision``.
        ArtifactError: the file does not exist, or has no tensor of a name in ``expose``.
    """
    if precision not in (None, "f32"):
        raise ToolchainError(
            f"ONNX Runtime's CPU provider has no inference precision {precision!r}", fix="f32"
        )
    return SimulatedEngine(model, threads, tuple(expose))


class SimulatedEngine(OrtRunner):
    """A file for TensorRT in ONNX Runtime. No engine is built: that needs the device's own GPU."""

    def __init__(self, model: Path, threads: int | None = None, expose: tuple[str, ...] = ()):
        # ONNX Runtime 1.31 codes the float bias of an integer kernel in float16 where the scales are: they vanish there.
        super().__init__(model, threads, expose, integer=False)
        self.describe = f"{self.describe}, in the place of TensorRT"

    def kernels(self) -> list[Kernel]:
        """Every layer that multiplies, and whether both its operands are codes, as the file has it."""
        return planned(self._model, "; no engine was built")
