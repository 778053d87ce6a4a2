"""``fxc verify --device-outputs`` and ``--engine``: float, simulated and device side by side."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.compiler.errors import UsageError
from fxc.tools.cli.output import columns

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact
    from fxc.compiler.device import DeviceOutput
    from fxc.compiler.device_engine import BuiltEngine

Folder = Annotated[
    Path | None,
    typer.Option(
        "--device-outputs",
        metavar="DIR",
        help="What the device answered to golden/: NAME.npy for each output, as the runner in the bundle writes it.",
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        metavar="DB",
        help="How much further from float than the bundle's files here the device may be; 1 dB by default.",
    ),
]
Engine = Annotated[
    Path | None,
    typer.Option(
        "--engine",
        metavar="DIR",
        help="On the device itself: build the engine into DIR, run it, and compare what it answers.",
    ),
]
_HEADS = ("", "output", "simulated", "device", "at least", "device to simulated", "worst sample")
_MORE = ("largest difference", "top-1 as simulated")
_SHOWN = 10


@dataclass(frozen=True)
class Answered:
    """What a device answered: the folder, each output three ways, and the engine if it was built here."""

    folder: Path
    rows: tuple[DeviceOutput, ...]
    engine: BuiltEngine | None = None

    @property
    def passed(self) -> bool:
        """Whether every output is close enough to float."""
        return all(row.passed for row in self.rows)


def compare(
    artifact: Artifact, folder: Path | None, engine: Path | None, tolerance: float | None
) -> Answered | None:
    """Compare the answers in ``folder``, or those of an engine built into ``engine``; ``None`` if neither was given.

    Raises:
        ArtifactError: the folder cannot be what a device answered.
        ToolchainError: no engine can be built here, or the build failed.
        UsageError: both, a tolerance without either or below zero, or a target without engines.
    """
    if folder is not None and engine is not None:
        raise UsageError("--engine makes the outputs that --device-outputs reads", fix="one of the two")
    if folder is None and engine is None:
        if tolerance is not None:
            raise UsageError(
                "--tolerance is of --device-outputs or --engine", fix="give one of them, or leave it out"
            )
        return None
    built = build_engine(artifact, engine) if engine is not None else None
    place = folder or (built.outputs if built is not None else Path())
    words = {} if tolerance is None else {"tolerance_db": tolerance}
    return Answered(place, artifact.compare_device(place, **words), built)


def build_engine(artifact: Artifact, folder: Path) -> BuiltEngine:
    """Have the room of the artifact's target build and run an engine.

    Raises:
        ToolchainError: it cannot here, or the build failed.
        UsageError: its targets have no engines.
    """
    from fxc import catalogue
    from fxc.compiler.folders import check_outside_bundles

    check_outside_bundles(folder)
    module = f"{catalogue.room(artifact.target).package}.engine"
    try:
        room = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(
            f"{artifact.target.name} has no engine to build", why="the model file itself is what runs"
        ) from error
    built: BuiltEngine = room.build(artifact.path, folder)
    return built


def text(answered: Answered) -> str:
    """For people: a line per output, the first two measures against float; then the engine."""
    cells = [
        (
            "ok" if row.passed else "FAIL",
            row.name,
            _told(row.simulated, row.unit),
            _told(row.device, row.unit),
            _told(row.floor, row.unit),
            "identical" if row.identical else _told(row.agreement, row.unit),
            "-" if row.worst_sample is None else f"{row.worst_sample}: {_told(row.worst, row.unit)}",
            f"{row.max_difference:.3g}",
            "-" if row.top1 is None else f"{row.top1:.1%}",
        )
        for row in answered.rows
    ]
    head = f"device outputs in {answered.folder}; simulated and device against float, SQNR in dB or equal values in %"
    table = head + "\n" + columns(cells, (*_HEADS, *_MORE))
    return table if answered.engine is None else f"{table}\n\n{_engine(answered.engine)}"


def document(answered: Answered | None) -> dict[str, Any] | None:
    """The same as data."""
    if answered is None:
        return None
    outputs = [{**asdict(row), "passed": row.passed} for row in answered.rows]
    engine = asdict(answered.engine) if answered.engine is not None else None
    return {"folder": str(answered.folder), "outputs": outputs, "engine": engine}


def _engine(built: BuiltEngine) -> str:
    counts = Counter(layer.precision for layer in built.layers)
    layers = ", ".join(f"{count} {precision}" for precision, count in counts.most_common())
    lines = [
        f"engine {built.file}: {', '.join(f'{name} {version}' for name, version in built.tools.items())}",
        *built.said,
        *([f"layers: {layers}"] if layers else []),
    ]
    if built.missed:
        lines.append(f"asked for int8 and not run in it: {len(built.missed)}")
    lines += [f"  {name}: {why}" for name, why in list(built.missed.items())[:_SHOWN]]
    more = len(built.missed) - _SHOWN
    return "\n".join([*lines, *([f"  and {more} more; --json has all"] if more > 0 else [])])


def _told(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if unit == "dB" else f"{value:.2%}"
