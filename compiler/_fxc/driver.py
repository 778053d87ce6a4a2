"""The flow of one compile, from a model to an artifact for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from fxc.collector import only_new_garbage
from fxc.compiler.artifact import Artifact
from fxc.compiler.backend import Violation
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Note, Program
from fxc.compiler.serialize_values import encode_tree
from fxc.compiler.target import Target
from fxc.data import Data, gather, recorded
from fxc.fingerprint import fingerprint, usable
from fxc.job import Job
from fxc.passes.pipelines import canonical, simplify
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import Calibration
from fxc.passes.quantize.equalize import Equalize
from fxc.passes.quantize.probe import Probed
from fxc.passes.quantize.statistics import Statistics
from fxc.request import Request, captured, check_skip, left_out, refuse
from fxc.sound import unsound
from fxc.stages import Stages
from fxc.watch import Watch


def compile_targets(
    model: Any, request: Request, targets: Sequence[Target], stages: Stages
) -> tuple[Artifact, ...]:
    """The whole flow for several targets, with one capture and one calibration; ``request.target`` does not count.

    Raises:
        FxcError: one of the tree; the temporary folders of all targets are gone then.
    """
    check_skip(request.skip)
    with only_new_garbage():
        return _compiled(model, request, targets, stages)


def _compiled(
    model: Any, request: Request, targets: Sequence[Target], stages: Stages
) -> tuple[Artifact, ...]:
    watch = Watch(verify=request.verify, dump=request.dump)
    start = begin(model, request, stages, watch)
    with stages("legalize"):
        slower = {target.name: _slower(start.program, replace(request, target=target)) for target in targets}
    # Data is touched when no target can refuse the model any more.
    with stages("synthesize"):
        data = _data(start, request, wanted=any(t.quantized or t.samples for t in targets))
    run: Calibration | None = None
    with ExitStack() as failed:
        jobs: dict[str, Job] = {}
        # Float targets take the program as it is, so they branch off first.
        for target in sorted(targets, key=lambda t: t.quantized):
            if target.quantized and run is None:
                start, run = tuned(start, data, request, _calibration(request, targets), stages, watch)
            job = _job(start, replace(request, target=target), stages, watch, alone=len(targets) == 1)
            job.program = job.program.note(*slower[target.name])
            failed.callback(job.work.cleanup)
            jobs[target.name] = job
        artifacts = _finished(start, data, request, [jobs[target.name] for target in targets], run, stages)
        # The bundles belong to the artifacts from here on: each folder disappears with its artifact unless saved.
        failed.pop_all()
    return artifacts


@dataclass(frozen=True)
class Start:
    """What all targets start from.

    Attributes:
        source: the program as captured.
        trainable: canonical, its batch norms alive.
        program: optimized, still without regard to any target.
        probed: what a float run of ``program`` showed, for targets that quantize.
    """

    source: Program
    trainable: Program
    program: Program
    probed: Probed | None = None


def begin(model: Any, request: Request, stages: Stages, watch: Watch) -> Start:
    """Capture, canonicalize, prune, optimize.

    Raises:
        CaptureError, PassError, LegalityError: the model cannot be captured, or nothing can be compiled from it.
    """
    with stages("capture"):
        source = captured(model, request).note(*left_out(request.catalogue))
        refuse(unsound(source), request.target)
        # A result whose structure no bundle can hold is refused now, not when the bundle is written.
        encode_tree(source.out_spec)
    watch.begin(source)
    with stages("canonicalize"):
        trainable = watch.run(source, canonical())
    if request.prune is not None:
        with stages("prune"):
            trainable = watch.run(trainable, (request.prune,))
    with stages("optimize"):
        program = watch.run(trainable, _optimizing(request))
    return Start(source, trainable, program)


def _optimizing(request: Request) -> tuple[Pass, ...]:
    """From a canonical program to the one that all targets start from."""
    passes = tuple(p for p in simplify(request.catalogue.rules) if p.name not in request.skip)
    return passes if request.image_input is None else (request.image_input, *passes)


def tuned(
    start: Start,
    data: Data,
    request: Request,
    calibration: Callable[[Program], Calibration],
    stages: Stages,
    watch: Watch,
) -> tuple[Start, Calibration]:
    """The same program for any target that quantizes, its channels evened out if the user did not say no.

    Args:
        calibration: makes one for a program.

    Returns:
        The program, and its calibration after the first batch, which shows what there is to even out.
    """
    with stages("equalize"):
        first = next(data.rest, data.samples)
        run = calibration(start.program)
        probed = run.probe(first)
        if request.config.equalize is not False:
            program = watch.run(start.program, (Equalize(probed=probed),))
            if program.graph_module is not start.program.graph_module:
                run = calibration(program)
                start, probed = replace(start, program=program), run.probe(first)
        return replace(start, probed=probed), run


def _calibration(request: Request, targets: Sequence[Target]) -> Callable[[Program], Calibration]:
    """Of what the targets' quantizers need."""
    chosen = [replace(request, target=target) for target in targets if target.quantized]
    return lambda program: Calibration([annotated(program, each) for each in chosen], probing=program)


def annotated(program: Program, request: Request) -> Program:
    """What the target's quantizers are attached to, without anybody watching: only to see what they need."""
    target, room = request.target, request.catalogue.room(request.target)
    assert target.scheme is not None
    return run_pipeline(program, (*room.pipeline(target), Annotate(target.scheme, request.config)))


def _job(start: Start, request: Request, stages: Stages, watch: Watch, *, alone: bool) -> Job:
    """A job; one of several gets timings, notes and a dump of its own."""
    if not alone:
        stages, watch = stages.fork(request.target.name), watch.fork(request.target.name)
    return Job(request, stages, watch, start.source, start.program, start.probed)


def _finished(
    start: Start, data: Data, request: Request, jobs: list[Job], run: Calibration | None, stages: Stages
) -> tuple[Artifact, ...]:
    for job in jobs:
        job.legalize()
        job.annotate()
    statistics = _statistics(start, request, jobs, data, run, stages)
    return tuple(job.finish(data, statistics) for job in jobs)


def _data(start: Start, request: Request, *, wanted: bool) -> Data:
    given = request.calibration_data
    if isinstance(given, Statistics):
        return recorded(start.program, given)
    # Batch norms tell what images look like, and only the program before optimization still has them.
    return gather(start.trainable, given, wanted=wanted, image=request.image_input)


def _statistics(
    start: Start, request: Request, jobs: list[Job], data: Data, run: Calibration | None, stages: Stages
) -> Statistics | None:
    """The user's statistics, or those of one run over the data for all targets."""
    if run is None:
        return None
    if isinstance(request.calibration_data, Statistics):
        programs = [job.annotated for job in jobs if job.annotated is not None]
        usable(request.calibration_data, fingerprint(start.source, start.program), programs)
        return request.calibration_data
    with stages("calibrate") as progress:
        run.over(data.rest, progress)
        return run.statistics(data.source)


def prepare(model: Any, request: Request, stages: Stages) -> Program:
    """Capture and optimize for a target, without checking or building."""
    with stages("capture"):
        program = captured(model, request)
    return _optimized(program, request, stages)


def _optimized(program: Program, request: Request, stages: Stages) -> Program:
    with stages("optimize"):
        own = request.catalogue.room(request.target).pipeline(request.target)
        return run_pipeline(program, (*canonical(), *_optimizing(request), *own))


def _illegal(program: Program, request: Request) -> list[Violation]:
    room = request.catalogue.room(request.target)
    return room.check(run_pipeline(program, room.pipeline(request.target)), request.target)


def _slower(program: Program, request: Request) -> list[Note]:
    """What the target takes, but not gladly.

    Raises:
        LegalityError: what it does not take.
    """
    found = _illegal(program, request)
    refuse(found, request.target)
    return [Note("info", f"{v.rule}; {v.fix}", v.layer, request.target.name) for v in found]


def violations(model: Any, request: Request, stages: Stages) -> list[Violation]:
    """Everything that the target refuses about a model, without building: what ``fxc lint`` shows."""
    with stages("capture"):
        program = captured(model, request)
    ready = _optimized(program, request, stages)
    return [*unsound(program), *request.catalogue.room(request.target).check(ready, request.target)]
