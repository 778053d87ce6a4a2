"""``fxc compile``: a model in, a bundle out, or one for each of several targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.tools.cli import options as o
from fxc.tools.cli.folder import check_dump, check_output
from fxc.tools.cli.modelspec import parse_model, parse_shapes
from fxc.tools.cli.output import Result, warn
from fxc.tools.cli.progress import Report, progress
from fxc.tools.cli.source import ImageWords, Source, image_facts
from fxc.tools.cli.summary import told, told_together
from fxc.tools.data.spec import parse_spec

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact
    from fxc.compiler.artifacts import Artifacts
    from fxc.compiler.config import QuantConfig
    from fxc.passes.quantize.statistics import Statistics
    from fxc.tools.data.calibration import CalibrationData


@dataclass(frozen=True)
class Job:
    """Everything one compile was asked for, checked as far as that goes without torch."""

    source: Source
    targets: tuple[str, ...]
    image_input: str | None
    device: Mapping[str, Any]
    quantization: QuantConfig
    dump: Path | None
    verify: bool
    skip: tuple[str, ...]
    output: Path
    force: bool


def compile_command(
    model: o.ModelText,
    target: o.TargetNames,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Bundle folder [build/NAME-TARGET]; of several targets, the folder of the bundles [build/NAME].",
            show_default=False,
        ),
    ] = None,
    jetpack: o.JetPack = None,
    tensorrt: o.TensorRT = None,
    ios: o.IOS = None,
    ane: o.Ane = False,
    batches: o.Batches = None,
    labels: o.Labels = None,
    about: o.About = None,
    weights: o.Weights = None,
    data: o.DataText = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    image_input: o.ImageInput = None,
    limit: o.Limit = None,
    input_shape: o.InputShapes = None,
    batch: o.Batch = None,
    static_batch: o.StaticBatch = False,
    outputs: o.Outputs = None,
    keep_float: o.KeepFloat = None,
    observer: o.Observer = None,
    percentile: o.Percentile = None,
    equalize: o.Equalize = None,
    bias_correction: o.BiasCorrection = None,
    config: o.ConfigFile = None,
    dump: Annotated[
        Path | None, typer.Option("--dump", metavar="DIR", help="Write a picture of every pass into DIR.")
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not check each pass's promise.")] = False,
    skip: o.Skip = None,
    name: o.Name = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing bundle.")] = False,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Compile a model for a target and prove the result on this host."""
    from fxc import catalogue, words
    from fxc.tools.cli.config import quantization

    spec, found = parse_model(model), tuple(catalogue.target(name) for name in target)
    device: dict[str, Any] = {
        "jetpack": jetpack,
        "tensorrt": tensorrt,
        "ios": ios,
        "ane": ane,
        "batches": batches,
        "labels": labels,
        "about": o.texts(about, "--about"),
    }
    words.narrowed(catalogue.INSTALLED, found, words.device(**device))
    called = name or spec.name
    job = Job(
        source=Source(
            model=spec,
            weights=weights,
            shapes=parse_shapes(input_shape, batch),
            batch=batch,
            static=static_batch or batch is not None,
            outputs=tuple(outputs) if outputs else None,
            data=parse_spec(data) if data else None,
            images=ImageWords(o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")),
            limit=limit,
            name=name,
            trust=trust,
        ),
        targets=tuple(t.name for t in found),
        image_input=image_input,
        device=device,
        quantization=quantization(config, keep_float, observer, percentile, equalize, bias_correction),
        dump=dump,
        verify=not no_verify,
        skip=tuple(skip or ()),
        output=output or Path("build") / (f"{called}-{found[0].name}" if len(found) == 1 else called),
        force=force,
    )
    check_output(job.output, force=force, several=len(found) > 1)
    if dump is not None:
        check_dump(dump, job.output)
    with progress() as report:
        done = run_job(job, report)
    for text in done.warnings:
        warn(text)
    if isinstance(done.made, Mapping):
        return told_together(done.made, job.output, done.warnings, done.data)
    return told(done.made, job.output, done.warnings, done.data)


@dataclass(frozen=True)
class Done:
    """What was made and saved, and what must be said beside it; ``data`` tells what it was calibrated with."""

    made: Artifact | Artifacts
    warnings: tuple[str, ...]
    data: str | None


def run_job(job: Job, report: Report) -> Done:
    """Load, capture, calibrate, compile and save."""
    report("load", 0, None)
    import fxc
    from fxc.request import check_skip

    check_skip(job.skip)
    loaded = job.source.load()
    report("capture", 0, None)
    program = job.source.capture(loaded)
    data = job.source.read(program, loaded)
    made = fxc.compile(
        program,
        job.targets[0] if len(job.targets) == 1 else job.targets,
        calibration_data=data,
        quantization=job.quantization,
        dump=job.dump,
        verify=job.verify,
        skip=job.skip,
        progress=report,
        preprocessing=image_facts(loaded, data, job.source.images),
        image_input=job.image_input,
        **job.device,
    )
    report("save", 0, None)
    made.save(job.output, force=job.force)
    warnings = (*loaded.warnings, *getattr(data, "warnings", ()))
    return Done(made, warnings, said(data))


def said(data: CalibrationData | Statistics | None) -> str | None:
    """What was used for calibration, in words; ``None`` if nothing was given."""
    if data is None or hasattr(data, "said"):
        return data.said if data is not None else None
    return f"statistics of {data.images} samples: {data.source}"
