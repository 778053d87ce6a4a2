"""Run an emitted file with ONNX Runtime's CPU provider on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fxc.backends.onnx.runtime import OrtRunner
from fxc.compiler.errors import ToolchainError
from fxc.compiler.target import Target


def load(
    model: Path,
    target: Target,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> OrtRunner:
    """Load a model file.

    Args:
        precision: ``"f32"`` or ``None``: float operators always compute in the file's own types.
        threads: number of threads within an operator; ONNX Runtime's choice if left out.
        expose: names of further tensors to return after the outputs.

    Raises:
        ToolchainError: ONNX Runtime is not installed, refuses the file, or cannot compute in ``precision``.
        ArtifactError: the file does not exist, or has no tensor of a name in ``expose``.
    """
    if precision not in (None, "f32"):
        raise ToolchainError(
            f"ONNX Runtime's CPU provider has no inference precision {precision!r}", fix="f32"
        )
    return OrtRunner(model, threads, tuple(expose))
