"""``fxc compile``: a model in, a bundle out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.compiler.target import Target
from fxc.tools.cli import options as o
from fxc.tools.cli.folder import check_dump, check_output
from fxc.tools.cli.modelspec import ModelSpec, ShapeSpec, parse_model, parse_shapes
from fxc.tools.cli.output import Result, facts, warn
from fxc.tools.cli.output import size as size_text
from fxc.tools.cli.progress import Report, progress
from fxc.tools.data.spec import DataSpec, parse_spec

if TYPE_CHECKING:
    from fxc.compiler.artifact import Artifact
    from fxc.compiler.config import QuantConfig
    from fxc.compiler.program import Program
    from fxc.tools.cli.models import LoadedModel
    from fxc.tools.data.calibration import CalibrationData


@dataclass(frozen=True)
class ImageWords:
    """``--size``, ``--mean`` and ``--std``, as numbers."""

    size: tuple[int, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


@dataclass(frozen=True)
class Job:
    """Everything one compile was asked for, checked as far as that goes without torch."""

    model: ModelSpec
    target: Target
    weights: str | None
    shapes: tuple[ShapeSpec, ...]
    batch: int | None
    static: bool
    outputs: tuple[str, ...] | None
    data: DataSpec | None
    images: ImageWords
    limit: int | None
    quantization: QuantConfig
    dump: Path | None
    verify: bool
    skip: tuple[str, ...]
    output: Path
    force: bool
    name: str | None
    trust: bool


def compile_command(
    model: o.ModelText,
    target: o.TargetName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Bundle folder [build/NAME-TARGET].", show_default=False),
    ] = None,
    weights: o.Weights = None,
    data: o.DataText = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    limit: o.Limit = None,
    input_shape: o.InputShapes = None,
    batch: o.Batch = None,
    static_batch: o.StaticBatch = False,
    outputs: o.Outputs = None,
    keep_float: o.KeepFloat = None,
    observer: o.Observer = None,
    percentile: o.Percentile = None,
    config: o.ConfigFile = None,
    dump: Annotated[
        Path | None, typer.Option("--dump", metavar="DIR", help="Write a picture of every pass into DIR.")
    ] = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not check each pass's promise.")] = False,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="PASS", help="Leave an optimization out. Repeat it."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The model's name in reports and files.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing bundle.")] = False,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Compile a model for a target and prove the result on this host."""
    from fxc import catalogue
    from fxc.tools.cli.config import quantization

    spec, found = parse_model(model), catalogue.target(target)
    job = Job(
        model=spec,
        target=found,
        weights=weights,
        shapes=parse_shapes(input_shape, batch),
        batch=batch,
        static=static_batch or batch is not None,
        outputs=tuple(outputs) if outputs else None,
        data=parse_spec(data) if data else None,
        images=ImageWords(o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")),
        limit=limit,
        quantization=quantization(config, keep_float, observer, percentile),
        dump=dump,
        verify=not no_verify,
        skip=tuple(skip or ()),
        output=output or Path("build") / f"{name or spec.name}-{found.name}",
        force=force,
        name=name,
        trust=trust,
    )
    check_output(job.output, force=force)
    if dump is not None:
        check_dump(dump)
    with progress() as report:
        done = run_job(job, report)
    for text in done.warnings:
        warn(text)
    return summary(done, job.output)


@dataclass(frozen=True)
class Done:
    """A saved artifact and what must be said beside it; ``data`` tells what it was calibrated with."""

    artifact: Artifact
    warnings: tuple[str, ...]
    data: str | None


def run_job(job: Job, report: Report) -> Done:
    """Load, capture, calibrate, compile and save."""
    report("load", 0, None)
    import fxc
    from fxc.driver import check_skip
    from fxc.tools.cli.models import load_model

    check_skip(job.skip)
    loaded = load_model(job.model, weights=job.weights, shapes=job.shapes, batch=job.batch)
    report("capture", 0, None)
    program = captured(loaded, job)
    data = calibration(job, program, loaded)
    artifact = fxc.compile(
        program,
        job.target.name,
        calibration_data=data,
        quantization=job.quantization,
        dump=job.dump,
        verify=job.verify,
        skip=job.skip,
        progress=report,
        preprocessing=manifest_preprocessing(loaded, data),
    )
    report("save", 0, None)
    artifact.save(job.output, force=job.force)
    warnings = (*loaded.warnings, *(data.warnings if data is not None else ()))
    return Done(artifact, warnings, data.said if data is not None else None)


def captured(loaded: LoadedModel, job: Job) -> Program:
    """The model as a program, cut at ``--outputs`` and with the batch that was asked for."""
    import fxc

    return fxc.capture(
        loaded.model,
        loaded.args,
        loaded.kwargs or None,
        dynamic_batch=False if job.static else None,
        outputs=job.outputs,
        name=job.name or loaded.name,
        trust=job.trust,
    )


def calibration(job: Job, program: Program, loaded: LoadedModel) -> CalibrationData | None:
    """The calibration data that the user named, fitted to the program's inputs."""
    from fxc.tools.data.calibration import LIMIT, load_calibration

    if job.data is None:
        return None
    return load_calibration(
        job.data,
        inputs=program.tensor_inputs,
        size=job.images.size,
        mean=job.images.mean,
        std=job.images.std,
        preprocessing=loaded.preprocessing,
        limit=job.limit or LIMIT,
    )


def manifest_preprocessing(loaded: LoadedModel, data: CalibrationData | None) -> dict[str, Any] | None:
    """How images become inputs, for whoever uses the bundle; ``None`` where nobody said."""
    known = (data.preprocessing if data is not None else None) or loaded.preprocessing
    if known is None:
        return None
    return {**known.to_json(), **({"categories": list(loaded.categories)} if loaded.categories else {})}


def summary(done: Done, path: Path) -> Result:
    """What a user wants to know first; the rest is in the report."""
    report, rows = done.artifact.report, summary_rows(done.artifact)
    words = ("model", "target", "calibration", "accuracy", "kernels", "tools")
    document = {
        "artifact": str(path),
        "calibration_data": done.data,
        "warnings": list(done.warnings),
        **{word: report.get(word) for word in words},
        "size": model_size(done.artifact),
        "float_tensors": report.get("float_tensors", []),
        "notes": [note for note in report.get("notes", []) if note.get("kind") == "warning"],
    }
    if done.data is not None:
        rows = [("calibration", done.data), *rows[1:]]
    rows.append(("time", _time(done.artifact.timings)))
    head = f"{report['model']['name']} for {report['target']['name']} -> {path}"
    return Result(document, "\n".join([head, facts(rows), f"  {path / 'report.html'}"]))


def summary_rows(artifact: Artifact) -> list[tuple[str, object]]:
    """The report's main numbers, as rows of words; the first is the calibration's."""
    report = artifact.report
    calibrated, kernels = report.get("calibration") or {}, report.get("kernels") or {}
    accuracy, sizes = report.get("accuracy") or {}, model_size(artifact)
    rows: list[tuple[str, object]] = [("calibration", calibrated.get("said"))]
    rows += [("accuracy", _accuracy(row)) for row in accuracy.get("outputs", [])]
    rows.append(("", accuracy.get("how")))
    if kernels.get("integer") is not None and report["target"]["precision"] == "int8":
        share = kernels.get("mac_coverage")
        covered = f", {share:.1%} of multiply-accumulates in integers" if share is not None else ""
        rows.append(("kernels", f"{kernels['integer']} integer, {kernels['float']} float{covered}"))
    ratio = f", {sizes['ratio']:.2f} of the float weights" if sizes["ratio"] is not None else ""
    rows.append(("size", size_text(sizes["file_bytes"]) + ratio))
    left = report.get("float_tensors") or []
    rows.append(
        ("left in float", f"{len(left)} tensors, each with its reason in the report" if left else None)
    )
    return rows


def _time(timings: dict[str, Any]) -> str | None:
    total = sum((timings.get("stages") or {}).values())
    if not total:
        return None
    return f"{total:.1f} s, {timings.get('verify', 0.0) / total:.0%} of it checking every pass's promise"


def model_size(artifact: Artifact) -> dict[str, Any]:
    """Bytes of the emitted file(s), of the float weights, and their ratio."""
    known = artifact.report.get("size") or {}
    files = known.get("files") or [artifact.manifest["model"]]
    emitted = sum(artifact.manifest["files"][name]["bytes"] for name in files)
    weights = known.get("float_weights_bytes")
    return {
        "file_bytes": emitted,
        "float_weights_bytes": weights,
        "ratio": emitted / weights if weights else None,
    }


def _accuracy(row: dict[str, Any]) -> str:
    file_db = row.get("sqnr_file_db", row.get("file_db"))
    graph_db = row.get("sqnr_graph_db", row.get("graph_db"))
    told = [f"{name} {db:.1f} dB" for name, db in (("file", file_db), ("graph", graph_db)) if db is not None]
    return f"{row['name']}: SQNR against float, {', '.join(told) or 'not measured'}"
