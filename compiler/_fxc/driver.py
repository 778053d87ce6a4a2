"""One compile, from a model to an artifact."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxc import catalogue
from fxc.compiler.artifact import Artifact, Golden, build_artifact
from fxc.compiler.backend import Emitted, Kernel, Violation
from fxc.compiler.capture import capture
from fxc.compiler.config import QuantConfig
from fxc.compiler.errors import ArtifactError, LegalityError, UsageError
from fxc.compiler.files import write_error
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.serialize_values import encode_tree
from fxc.compiler.target import Target
from fxc.data import Data, gather
from fxc.passes.pipelines import canonical, optimize, simplify
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.statistics import Statistics
from fxc.proof import OutputProof, compare_outputs, golden_intermediates
from fxc.report import build_report
from fxc.sound import unsound
from fxc.stages import Stages
from fxc.watch import Watch


@dataclass(frozen=True)
class Request:
    """Everything a user may ask of one compile; the words are those of :func:`fxc.compile`."""

    target: Target
    config: QuantConfig = field(default_factory=QuantConfig)
    example_inputs: Any = None
    example_kwargs: Mapping[str, Any] | None = None
    calibration_data: Iterable[Any] | None = None
    outputs: tuple[str, ...] | None = None
    dynamic_batch: bool | None = None
    name: str | None = None
    dump: Path | None = None
    verify: bool = True
    skip: tuple[str, ...] = ()
    trust: bool = False
    preprocessing: dict[str, Any] = field(default_factory=dict)


def compile_request(model: Any, request: Request, stages: Stages) -> Artifact:
    """The whole flow: capture, canonicalize, optimize, legalize, quantize, emit, run, bundle."""
    check_skip(request.skip)
    watch = Watch(verify=request.verify, dump=request.dump)
    # The bundle is assembled here and belongs to the artifact; it disappears with it unless saved.
    work = _work_folder()
    try:
        return _compiled(model, request, stages, watch, work)
    except BaseException:
        work.cleanup()
        raise


def _compiled(
    model: Any, request: Request, stages: Stages, watch: Watch, work: tempfile.TemporaryDirectory[str]
) -> Artifact:
    room = catalogue.room(request.target)
    with stages("capture"):
        program = source = _captured(model, request)
        refuse(unsound(program), request.target)
        # A result whose structure no bundle can hold is refused now, not when the bundle is written.
        encode_tree(program.out_spec)
    watch.begin(program)
    with stages("canonicalize"):
        program = trainable = watch.run(program, canonical())
    with stages("optimize"):
        program = watch.run(program, _without(simplify(), request.skip))
    with stages("legalize"):
        program = watch.run(program, room.pipeline(request.target))
        refuse(room.check(program, request.target), request.target)
    with stages("synthesize"):
        # Batch norms tell what images look like, and only the program before optimization still has them.
        data = gather(trainable, request.calibration_data, quantized=request.target.quantized)
    quantized, statistics = _quantize(program, request, data, watch, stages)
    with stages("check"):
        graphs = program.run_flat(*data.samples), quantized.run_flat(*data.samples)
    watch.end(quantized)
    with stages("emit"), _written(work):
        emitted = room.emit(quantized, request.target, Path(work.name))
    with stages("run"), _written(work):
        execution = _run(room, request.target, Path(work.name) / emitted.model, data.samples)
        proofs = compare_outputs(quantized, graphs[0], graphs[1], execution.outputs)
    with stages("bundle"), _written(work):
        done = Finished(
            source, program, quantized, request, data, statistics, emitted, execution, *graphs, proofs, watch
        )
        return _bundle(done, work, stages)


def prepare(model: Any, request: Request, stages: Stages) -> Program:
    """Capture and optimize for a target, without checking or building."""
    with stages("capture"):
        program = _captured(model, request)
    return _optimized(program, request, stages)


def _optimized(program: Program, request: Request, stages: Stages) -> Program:
    with stages("optimize"):
        passes = (*optimize(), *catalogue.room(request.target).pipeline(request.target))
        return run_pipeline(program, passes)


def violations(model: Any, request: Request, stages: Stages) -> list[Violation]:
    """Everything that the target refuses about a model, without building: what ``fxc lint`` shows."""
    with stages("capture"):
        program = _captured(model, request)
    ready = _optimized(program, request, stages)
    return [*unsound(program), *catalogue.room(request.target).check(ready, request.target)]


def check_skip(skip: tuple[str, ...]) -> None:
    """Every name must be that of a pass that can be left out.

    Raises:
        UsageError: with the nearest names.
    """
    known = sorted({p.name for p in simplify()})
    for name in skip:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"skip: there is no pass {name!r} to leave out", fix=f"{hint}known: {', '.join(known)}"
            )


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="fxc-")
    except OSError as error:
        raise ArtifactError(
            f"cannot make a temporary folder: {error}", fix="set TMPDIR to a folder that you may write"
        ) from error


@contextmanager
def _written(work: tempfile.TemporaryDirectory[str]) -> Iterator[None]:
    """A full disk and the like, told as such.

    Raises:
        ArtifactError: naming the file, or the temporary folder.
    """
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else work.name
        raise write_error(Path(place), error) from error


@dataclass(frozen=True)
class Execution:
    """The emitted file, read back and run on the proof samples."""

    outputs: tuple[Tensor, ...]
    kernels: list[Kernel]
    runtime: str
    file_bytes: int


@dataclass(frozen=True)
class Finished:
    """What a compile leaves behind for its report; ``source`` is the program as captured."""

    source: Program
    float_program: Program
    program: Program
    request: Request
    data: Data
    statistics: Statistics | None
    emitted: Emitted
    execution: Execution
    float_outputs: tuple[Tensor, ...]
    graph_outputs: tuple[Tensor, ...]
    proofs: list[OutputProof]
    watch: Watch


def _captured(model: Any, request: Request) -> Program:
    if isinstance(model, Program):
        model = _with_examples(model, request)
    return capture(
        model,
        request.example_inputs,
        request.example_kwargs,
        dynamic_batch=request.dynamic_batch,
        outputs=request.outputs,
        name=request.name,
        trust=request.trust,
    )


def _with_examples(program: Program, request: Request) -> Program:
    if "quantized" in program.facts:
        raise UsageError(f"{program.name} is quantized already", fix="compile the float program or the model")
    if request.dynamic_batch is not None and request.dynamic_batch != program.dynamic:
        raise UsageError(
            f"{program.name} was captured with a {'dynamic' if program.dynamic else 'fixed'} batch",
            fix="give dynamic_batch to fxc.capture",
        )
    given = request.example_inputs
    if given is None and not request.example_kwargs:
        return program
    args = (given,) if isinstance(given, Tensor) else tuple(given or ())
    return replace(program, example_inputs=program.flatten(args, request.example_kwargs))


def _without(passes: tuple[Pass, ...], skip: tuple[str, ...]) -> tuple[Pass, ...]:
    return tuple(p for p in passes if p.name not in skip)


def _quantize(
    program: Program, request: Request, data: Data, watch: Watch, stages: Stages
) -> tuple[Program, Statistics | None]:
    scheme = request.target.scheme
    if scheme is None:
        return program, None
    with stages("annotate"):
        annotated = watch.run(program, (Annotate(scheme, request.config),))
    with stages("calibrate") as progress, torch.no_grad():
        statistics = calibrate(annotated, data.rest, source=data.source, progress=progress)
    with stages("quantize"):
        insert = InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics)
        return watch.run(annotated, (insert,)), statistics


def refuse(violations: list[Violation], target: Target) -> None:
    """Raise if any violation is fatal.

    Raises:
        LegalityError: naming the first one's layer, source line, rule and way out, and how many more there are.
    """
    fatal = [v for v in violations if v.fatal]
    if fatal:
        first = fatal[0]
        more = f" (and {len(fatal) - 1} more; fxc lint lists them)" if len(fatal) > 1 else ""
        raise LegalityError(
            f"{target.name} cannot take layer {first.layer}{more}",
            where=f"{first.layer} ({first.source})" if first.source else first.layer,
            why=first.rule,
            fix=first.fix,
        )


def _run(room: catalogue.Room, target: Target, model: Path, samples: tuple[Tensor, ...]) -> Execution:
    runner = room.load(model, target, precision=target.options.get("proof_precision"))
    outputs = runner([x.detach().cpu().numpy() for x in samples])
    # Writable copies: a runtime may hand out views of its own buffers.
    tensors = tuple(torch.from_numpy(y.copy()) for y in outputs)
    return Execution(tensors, runner.kernels(), runner.describe, model.stat().st_size)


def _bundle(
    done: Finished,
    work: tempfile.TemporaryDirectory[str],
    stages: Stages,
) -> Artifact:
    report = build_report(done)
    timings = {
        "stages": dict(stages.seconds),
        "passes": done.watch.timer.seconds,
        "verify": done.watch.verify.seconds if done.watch.verify else 0.0,
    }
    golden = Golden(
        inputs=done.data.samples,
        outputs=done.execution.outputs,
        graph_outputs=done.graph_outputs,
        float_outputs=done.float_outputs,
        intermediates=golden_intermediates(done.program, done.data.samples),
    )
    html = catalogue.resolve("fxc.tools.report:render")(report)
    return build_artifact(
        program=done.program,
        target=done.request.target,
        emitted=done.emitted,
        work=work,
        report=report,
        report_html=html,
        golden=golden,
        preprocessing=done.request.preprocessing,
        timings=timings,
    )
