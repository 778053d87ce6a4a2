"""``fxc calibrate``: data in, statistics out, which every target and every observer can use without the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fxc.compiler.errors import CalibrationError, UsageError
from fxc.tools.cli import options as o
from fxc.tools.cli.modelspec import parse_model, parse_shapes
from fxc.tools.cli.output import Result, facts, warn
from fxc.tools.cli.progress import progress
from fxc.tools.cli.source import ImageWords, Source, image_facts
from fxc.tools.data.spec import parse_spec


def calibrate_command(
    model: o.ModelText,
    data: o.RequiredData,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the statistics [build/NAME-statistics].", show_default=False
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="Calibrate for this target only. Repeat it. [every integer target]",
            autocompletion=o.target_names,
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option("--merge", metavar="DIR", help="Add the statistics of an earlier run. Repeat it."),
    ] = None,
    weights: o.Weights = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    image_input: o.ImageInput = None,
    limit: o.Limit = None,
    input_shape: o.InputShapes = None,
    batch: o.Batch = None,
    static_batch: o.StaticBatch = False,
    outputs: o.Outputs = None,
    equalize: o.Equalize = None,
    skip: o.Skip = None,
    name: o.Name = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing statistics.")] = False,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Run calibration data through a model once and keep the statistics; compile takes them as --calibration-data."""
    spec, found = parse_model(model), parse_spec(data)
    if found.kind == "statistics":
        raise UsageError(f"{data} holds statistics already", fix="--calibration-data IMAGES --merge " + data)
    source = Source(
        model=spec,
        weights=weights,
        shapes=parse_shapes(input_shape, batch),
        batch=batch,
        static=static_batch or batch is not None,
        outputs=tuple(outputs) if outputs else None,
        data=found,
        images=ImageWords(o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")),
        limit=limit,
        name=name,
        trust=trust,
    )
    path = output or Path("build") / f"{name or spec.name}-statistics"
    _check(path, force)
    with progress() as report:
        report("load", 0, None)
        import fxc

        earlier = [fxc.Statistics.load(folder) for folder in merge or ()]
        loaded = source.load()
        report("capture", 0, None)
        program = source.capture(loaded)
        samples = source.read(program, loaded)
        assert not isinstance(samples, (fxc.Statistics, type(None)))
        statistics = fxc.calibrate(
            program,
            samples,
            targets=target or None,
            equalize=equalize,
            skip=tuple(skip or ()),
            progress=report,
            preprocessing=image_facts(loaded, samples, source.images),
            image_input=image_input,
        )
        for other in earlier:
            statistics = other.merged(statistics)
        statistics.save(path, force=force)
    for text in (*loaded.warnings, *samples.warnings):
        warn(text)
    return _told(spec.name, path, statistics.images, len(statistics.tensors), statistics.source)


def _check(path: Path, force: bool) -> None:
    """Refuse before the work what would be refused after it.

    Raises:
        ArtifactError: the folder cannot be written, or holds something.
    """
    from fxc.compiler.folders import ensure_writable

    ensure_writable(path, force=force, removable=lambda folder: (folder / "statistics.json").is_file())


def _told(model: str, path: Path, images: int, tensors: int, source: str) -> Result:
    if not tensors:
        raise CalibrationError(f"{model} has no float tensor to calibrate")
    document = {
        "statistics": str(path),
        "model": model,
        "samples": images,
        "tensors": tensors,
        "source": source,
    }
    rows = [("data", source), ("samples", images), ("tensors", tensors)]
    use = f"  fxc compile ... --calibration-data {path}"
    return Result(document, "\n".join([f"{model} calibrated -> {path}", facts(rows), use]))
