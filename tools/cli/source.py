"""The model and the data of a command that captures: the same words mean the same in ``compile`` and ``calibrate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fxc.tools.cli.modelspec import ModelSpec, ShapeSpec
from fxc.tools.data.spec import DataSpec

if TYPE_CHECKING:
    from fxc.compiler.program import Program
    from fxc.passes.quantize.statistics import Statistics
    from fxc.tools.cli.models import LoadedModel
    from fxc.tools.data.calibration import CalibrationData


@dataclass(frozen=True)
class ImageWords:
    """``--size``, ``--mean`` and ``--std``, as numbers."""

    size: tuple[int, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Source:
    """A model and its data as the user names them, checked as far as that goes without torch."""

    model: ModelSpec
    weights: str | None
    shapes: tuple[ShapeSpec, ...]
    batch: int | None
    static: bool
    outputs: tuple[str, ...] | None
    data: DataSpec | None
    images: ImageWords
    limit: int | None
    name: str | None
    trust: bool

    def load(self) -> LoadedModel:
        """The model itself.

        Raises:
            FxcError: it cannot be found or built.
        """
        from fxc.tools.cli.models import load_model

        return load_model(self.model, weights=self.weights, shapes=self.shapes, batch=self.batch)

    def capture(self, loaded: LoadedModel) -> Program:
        """The model as a program, cut at ``--outputs`` and with the batch that was asked for."""
        import fxc

        return fxc.capture(
            loaded.model,
            loaded.args,
            loaded.kwargs or None,
            dynamic_batch=False if self.static else None,
            outputs=self.outputs,
            name=self.name or loaded.name,
            trust=self.trust,
        )

    def read(self, program: Program, loaded: LoadedModel) -> CalibrationData | Statistics | None:
        """The calibration data that the user named, fitted to the program's inputs, or saved statistics."""
        from fxc.tools.data.calibration import LIMIT, load_calibration

        if self.data is None:
            return None
        if self.data.kind == "statistics":
            from fxc.passes.quantize.statistics import Statistics

            return Statistics.load(self.data.path)
        return load_calibration(
            self.data,
            inputs=program.tensor_inputs,
            size=self.images.size,
            mean=self.images.mean,
            std=self.images.std,
            preprocessing=loaded.preprocessing,
            limit=self.limit or LIMIT,
        )


def image_facts(
    loaded: LoadedModel, data: CalibrationData | Statistics | None, said: ImageWords
) -> dict[str, Any] | None:
    """How images become inputs, for whoever uses the bundle; ``None`` where nobody said.

    Args:
        said: the user's words, which count where neither data nor weights know.
    """
    known = getattr(data, "preprocessing", None) or loaded.preprocessing
    if known is None:
        return {"mean": list(said.mean), "std": list(said.std)} if said.mean and said.std else None
    # Statistics carry the facts as they stand in a manifest.
    facts = dict(known) if isinstance(known, Mapping) else known.to_json()
    return {**facts, **({"categories": list(loaded.categories)} if loaded.categories else {})}
