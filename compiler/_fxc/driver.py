"""One compile, from a model to an artifact."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxc import catalogue
from fxc.compiler.artifact import Artifact, build_artifact
from fxc.compiler.backend import Emitted, Kernel, Violation
from fxc.compiler.capture import capture
from fxc.compiler.config import QuantConfig
from fxc.compiler.errors import CalibrationError, LegalityError
from fxc.compiler.instruments import Instrument, Timer, Verify
from fxc.compiler.passbase import Pass
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.passes.canonicalize import Canonicalize
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import batches, calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.statistics import Statistics
from fxc.passes.quantize.synthesize import synthesize
from fxc.proof import OutputProof, compare_outputs
from fxc.report import build_report
from fxc.stages import Stages

PROOF_SAMPLES = 4
"""Samples on which the float program, the quantized graph and the emitted file are compared."""


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


@dataclass
class Data:
    """Calibration data and the few samples that proofs use.

    Attributes:
        samples: flat inputs, at most :data:`PROOF_SAMPLES` rows each.
        rest: all batches, the peeled first one included.
        source: where the data comes from, in words.
        given: whether the user gave it.
    """

    samples: tuple[Tensor, ...]
    rest: Iterable[Any]
    source: str
    given: bool


def compile_request(model: Any, request: Request, stages: Stages) -> Artifact:
    """The whole flow: capture, canonicalize, optimize, legalize, quantize, emit, run, bundle."""
    room = catalogue.room(request.target)
    instruments = _Instruments(request)
    with stages("capture"):
        program = _captured(model, request)
    instruments.begin(program)
    with stages("canonicalize"):
        program = instruments.run(program, (Canonicalize(),))
    with stages("synthesize"):
        data = _data(program, request)
    with stages("optimize"):
        program = instruments.run(program, _without(optimize(), request.skip))
    with stages("legalize"):
        program = instruments.run(program, room.pipeline(request.target))
        refuse(room.check(program, request.target), request.target)
    quantized, statistics = _quantize(program, request, data, instruments, stages)
    with stages("check"):
        graphs = program.run_flat(*data.samples), quantized.run_flat(*data.samples)
    instruments.end(quantized)
    # The bundle is assembled here and belongs to the artifact; it disappears with it unless saved.
    work = tempfile.TemporaryDirectory(prefix="fxc-")
    with stages("emit"):
        emitted = room.emit(quantized, request.target, Path(work.name))
    with stages("run"):
        outputs, kernels = _run(room, request.target, Path(work.name) / emitted.model, data.samples)
        proofs = compare_outputs(quantized, graphs[0], graphs[1], outputs)
    with stages("bundle"):
        done = Finished(program, quantized, request, data, statistics, emitted, kernels, proofs, instruments)
        return _bundle(done, work, (*graphs, outputs), stages)


def prepare(model: Any, request: Request, stages: Stages) -> Program:
    """Capture and optimize for a target, without checking or building: what ``fxc lint`` looks at."""
    with stages("capture"):
        program = _captured(model, request)
    with stages("optimize"):
        passes = (Canonicalize(), *optimize(), *catalogue.room(request.target).pipeline(request.target))
        return run_pipeline(program, passes)


@dataclass(frozen=True)
class Finished:
    """What a compile leaves behind for its report."""

    float_program: Program
    program: Program
    request: Request
    data: Data
    statistics: Statistics | None
    emitted: Emitted
    kernels: list[Kernel]
    proofs: list[OutputProof]
    instruments: _Instruments


class _Instruments:
    """The instruments of one compile, over several pipelines."""

    def __init__(self, request: Request):
        self.timer = Timer()
        self.verify = Verify() if request.verify else None
        self.all: list[Instrument] = [self.timer, *([self.verify] if self.verify else [])]
        if request.dump is not None:
            self.all.append(catalogue.resolve("fxc.tools.dump.explorer:DumpInstrument")(request.dump))

    def begin(self, program: Program) -> None:
        for instrument in self.all:
            instrument.begin(program)

    def end(self, program: Program) -> None:
        for instrument in self.all:
            instrument.end(program)

    def run(self, program: Program, passes: Iterable[Pass]) -> Program:
        return run_pipeline(program, passes, [_Inner(i) for i in self.all])


@dataclass
class _Inner(Instrument):
    """Forwards passes, not beginnings and ends: one compile runs several pipelines."""

    outer: Instrument

    def before(self, step: Pass, program: Program) -> None:
        self.outer.before(step, program)

    def after(self, step: Pass, before: Program, result: Any) -> None:
        self.outer.after(step, before, result)


def _captured(model: Any, request: Request) -> Program:
    if isinstance(model, Program):
        return model
    return capture(
        model,
        request.example_inputs,
        request.example_kwargs,
        dynamic_batch=request.dynamic_batch,
        outputs=request.outputs,
        name=request.name,
        trust=request.trust,
    )


def _without(passes: tuple[Pass, ...], skip: tuple[str, ...]) -> tuple[Pass, ...]:
    return tuple(p for p in passes if p.name not in skip)


def _data(program: Program, request: Request) -> Data:
    given = request.calibration_data is not None
    if not given and not request.target.quantized:
        return Data(program.example_inputs, (), "the example inputs", False)
    if given:
        data, source = request.calibration_data, "calibration data"
    else:
        data, source = synthesize(program)
    first, rest = _peel(iter(data or ()))
    flat = next(batches(program, [first]))
    samples = tuple(x[:PROOF_SAMPLES] if program.dynamic else x for x in flat)
    return Data(samples, rest, source, given)


def _peel(data: Iterator[Any]) -> tuple[Any, Iterable[Any]]:
    try:
        first = next(data)
    except StopIteration:
        raise CalibrationError(
            "the calibration data is empty",
            fix="20 to 100 typical inputs are enough; a consumed iterator is empty too",
        ) from None
    return first, chain([first], data)


def _quantize(
    program: Program, request: Request, data: Data, instruments: _Instruments, stages: Stages
) -> tuple[Program, Statistics | None]:
    scheme = request.target.scheme
    if scheme is None:
        return program, None
    with stages("annotate"):
        annotated = instruments.run(program, (Annotate(scheme, request.config),))
    with stages("calibrate") as progress, torch.no_grad():
        statistics = calibrate(annotated, data.rest, source=data.source, progress=progress)
    with stages("quantize"):
        insert = InsertQDQ(share_ratio=scheme.share_ratio, statistics=statistics)
        return instruments.run(annotated, (insert,)), statistics


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


def _run(
    room: catalogue.Room, target: Target, model: Path, samples: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], list[Kernel]]:
    runner = room.load(model, target, precision=target.options.get("proof_precision", "f32"))
    outputs = runner([x.numpy() for x in samples])
    return tuple(torch.from_numpy(y) for y in outputs), runner.kernels()


def _bundle(
    done: Finished,
    work: tempfile.TemporaryDirectory[str],
    outputs: tuple[tuple[Tensor, ...], ...],
    stages: Stages,
) -> Artifact:
    report = build_report(done)
    timings = {"stages": dict(stages.seconds), "passes": done.instruments.timer.seconds}
    golden = {
        "inputs": done.data.samples,
        "float_outputs": outputs[0],
        "graph_outputs": outputs[1],
        "outputs": outputs[2],
    }
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
