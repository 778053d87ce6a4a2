"""One random model through the whole compiler, judged by eager PyTorch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fxc import catalogue
from fxc.compiler.capture import capture
from fxc.compiler.instruments import Instrument, Verify
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.target import Target
from fxc.compiler.text import structural_hash
from fxc.passes.fuse_activation import FuseActivation
from fxc.passes.pipelines import canonical, simplify
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.substitute import RULES, Substitute
from tests.random import codes
from tests.random.op import Op
from tests.random.spec import ROWS, Net, Spec, run_step
from tests.random.table import OPS

TOLERANCE = 1e-4
FLOAT = ("ort-fp32", "cpu-fp32")
INT8 = ("ort-int8", "cpu-int8")

Flat = tuple[Tensor, ...]


class Broken(AssertionError):
    """A promise that did not hold.

    Attributes:
        stage: where: ``"simplify"``, ``"cpu-int8"``.
    """

    def __init__(self, stage: str, what: str):
        super().__init__(f"{stage}: {what}")
        self.stage = stage


class RuntimeFault(Broken):
    """OpenVINO fails on a file, or computes something else, that ONNX Runtime runs as it should."""

    def __init__(self, error: Broken):
        super().__init__(f"OpenVINO alone, {error.stage}", str(error).removeprefix(f"{error.stage}: "))


@dataclass
class Record:
    """What one or many examples showed.

    Attributes:
        operators: nodes of each ATen overload in the captured graphs.
        seconds: CPU time by stage.
        counts: quantized tensors compared, outputs compared, and the like.
        worst: largest deviation seen by kind.
    """

    operators: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; whatever goes wrong in it is :class:`Broken` there."""
        start = time.process_time()
        try:
            yield
        except Broken:
            raise
        except Exception as error:
            raise _broken(name, error) from error
        finally:
            self.seconds[name] += time.process_time() - start

    def as_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        seconds = {name: round(value, 4) for name, value in self.seconds.items()}
        return {"operators": self.operators, "seconds": seconds, "counts": self.counts, "worst": self.worst}

    def saw(self, kind: str, value: float) -> None:
        """Keep the largest."""
        self.worst[kind] = max(self.worst.get(kind, 0.0), value)


class Honest(Instrument):
    """A pass leaves its input alone, and ``modified`` tells whether the graph changed."""

    def __init__(self) -> None:
        self._hash = ""

    def before(self, step: Pass, program: Program) -> None:
        """Remember the graph."""
        self._hash = structural_hash(program)

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Compare."""
        if structural_hash(before) != self._hash:
            raise AssertionError(f"{step.text()} changed its input")
        if not result.modified and structural_hash(result.program) != self._hash:
            raise AssertionError(f"{step.text()} said modified=False and changed the graph")


def check(spec: Spec, record: Record | None = None) -> None:
    """Everything that must hold for a model.

    Raises:
        Broken: naming the stage.
    """
    record = Record() if record is None else record
    record.counts["models"] += 1
    model = Net(spec)
    captured = _captured(spec, model, record)
    spec = replace(spec, dynamic=captured.dynamic)
    program = _simplified(spec, model, captured, record)
    for name in FLOAT:
        with record.stage(name):
            _float_file(spec, model, program, catalogue.target(name), record)
    for name in INT8:
        with record.stage(name):
            _int8_file(spec, program, catalogue.target(name), record)


def fails_at(stage: str) -> Callable[[Spec], bool]:
    """A test whether a model breaks a promise at ``stage``."""

    def fails(spec: Spec) -> bool:
        try:
            check(spec)
        except Broken as error:
            return error.stage == stage
        return False

    return fails


def _captured(spec: Spec, model: Net, record: Record) -> Program:
    with record.stage("capture"):
        program = capture(model, spec.rows(0, spec.batch), dynamic_batch=None if spec.dynamic else False)
        targets = [n.target for n in program.graph.nodes if n.op == "call_function"]
        record.operators.update(str(t) for t in targets if isinstance(t, torch._ops.OpOverload))
        may_be_fixed = any(OPS[step.op].fixes for step in spec.steps)
        if program.dynamic != spec.dynamic and not may_be_fixed:
            raise Broken("capture", "; ".join(note.text for note in program.notes))
    return program


def _simplified(spec: Spec, model: Net, program: Program, record: Record) -> Program:
    for name, passes in (("canonical", canonical()), ("simplify", simplify())):
        with record.stage(name):
            program = run_pipeline(program, passes, (Verify(), Honest()))
            for rows in batches(spec):
                _equal(name, eager(model, rows), program.run_flat(*rows), record)
    with record.stage("settled"):
        for step in simplify():
            if step.apply(program).modified:
                raise Broken("settled", f"a second {step.text()} found something to do")
    with record.stage("further passes"):
        chosen = tuple(sorted(RULES))[spec.seed % 2 :: 2]
        further = run_pipeline(
            program, (FuseActivation(residual=True), Substitute(rules=chosen)), (Verify(), Honest())
        )
        rows = batches(spec)[0]
        _equal("further passes", eager(model, rows), further.run_flat(*rows), record)
    return program


def batches(spec: Spec) -> list[Flat]:
    """Inputs to judge on: all rows and a single one, or as many as a fixed batch has."""
    if not spec.dynamic:
        return [spec.rows(0, spec.batch)]
    return [spec.rows(), spec.rows(1, 1)]


def eager(model: Net, rows: Flat) -> Flat:
    """Flat outputs of the module itself, which may overwrite its inputs; a program leaves them as they are."""
    with torch.no_grad():
        found = model(*(x.clone() for x in rows))
    return (found,) if isinstance(found, Tensor) else found


def _equal(stage: str, want: Flat, got: Sequence[Tensor], record: Record) -> None:
    if len(want) != len(got):
        raise Broken(stage, f"{len(got)} outputs, the module has {len(want)}")
    for i, (a, b) in enumerate(zip(want, got)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Broken(
                stage, f"output {i} is {b.dtype}{list(b.shape)}, the module's {a.dtype}{list(a.shape)}"
            )
        error = distance(a, b)
        record.saw(stage, error)
        if not error <= TOLERANCE:
            raise Broken(stage, f"output {i} is off by {error:.3g} (batch {a.shape[0]})")


def distance(want: Tensor, got: Tensor) -> float:
    """The larger of the relative 2-norm and maximum; for integers and booleans 0 or infinity."""
    if not want.is_floating_point():
        return 0.0 if torch.equal(want, got) else math.inf
    a, b = want.double(), got.double()
    # A value is of useful size over all rows; a single row of it may vanish.
    least = 1e-2
    return float(
        max((a - b).norm() / a.norm().clamp_min(least), (a - b).abs().max() / a.abs().max().clamp_min(least))
    )


def _float_file(spec: Spec, model: Net, program: Program, target: Target, record: Record) -> None:
    room = catalogue.room(target)
    program = run_pipeline(program, room.pipeline(target), (Verify(), Honest()))
    _legal(target, program)

    def judge(rows: Flat, found: Flat) -> None:
        _equal(target.name, eager(model, rows), found, record)

    with tempfile.TemporaryDirectory(prefix="fxc-random-") as folder:
        emitted = room.emit(program, target, Path(folder))
        _run(spec, target, Path(folder) / emitted.model, judge)


def _run(spec: Spec, target: Target, path: Path, judge: Callable[[Flat, Flat], None]) -> None:
    """Judge what the target's runtime makes of a file; where OpenVINO is wrong, ask ONNX Runtime whether the file is."""
    try:
        _run_in(spec, target, path, judge)
    except Exception as error:
        if target.backend == "ort":
            raise
        _run_in(spec, catalogue.target("ort-fp32"), path, judge)
        raise RuntimeFault(_broken(target.name, error)) from error


def _run_in(spec: Spec, target: Target, path: Path, judge: Callable[[Flat, Flat], None]) -> None:
    runner = catalogue.room(target).load(path, target, threads=1, precision="f32")
    for rows in _some(spec, target):
        judge(rows, _ran(runner, rows))


def _broken(stage: str, error: Exception) -> Broken:
    return error if isinstance(error, Broken) else Broken(stage, f"{type(error).__name__}: {error}")


def _some(spec: Spec, target: Target) -> list[Flat]:
    """OpenVINO compiles anew for every batch, which is most of the time: one of the two, by turns."""
    every = batches(spec)
    return every if target.backend == "ort" else [every[spec.seed % len(every)]]


def _ran(runner: Any, rows: Flat) -> Flat:
    return tuple(torch.from_numpy(y.copy()) for y in runner([x.numpy() for x in rows]))


def _legal(target: Target, program: Program) -> None:
    found = catalogue.room(target).check(program, target)
    if found:
        raise Broken(target.name, f"{found[0].layer}: {found[0].rule}")


def _int8_file(spec: Spec, program: Program, target: Target, record: Record) -> None:
    room, scheme = catalogue.room(target), target.scheme
    assert scheme is not None
    instruments = (Verify(), Honest())
    annotated = run_pipeline(program, (*room.pipeline(target), Annotate(scheme)), instruments)
    statistics = calibrate(annotated, _calibration(spec))
    quantized = run_pipeline(
        annotated, (InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics),), instruments
    )
    with tempfile.TemporaryDirectory(prefix="fxc-random-") as folder:
        emitted = room.emit(quantized, target, Path(folder))
        path = Path(folder) / emitted.model
        tied = behind(spec, lambda op: op.ties)
        if target.backend == "ort":
            for rows in batches(spec):
                found = codes.same_codes(target.name, path, quantized, rows, emitted.tensors, record)
                for i, name, reason in found:
                    if i is None or not tied[i]:
                        raise Broken(target.name, f"{name}: {reason}")

        def judge(rows: Flat, found: Flat) -> None:
            _alike(spec, target.name, program, quantized, rows, found, record)

        _run(spec, target, path, judge)


def _calibration(spec: Spec) -> list[Flat]:
    """The samples that are judged and, where the batch is free, as many others."""
    return [spec.rows(0, 2 * ROWS)] if spec.dynamic else [spec.rows(0, spec.batch)]


def behind(spec: Spec, which: Callable[[Op], bool]) -> list[bool]:
    """Per output, whether one of the steps that it depends on has such an operator."""
    found = [False] * len(spec.inputs)
    for step, count in zip(spec.steps, value_counts(spec)):
        found += [which(OPS[step.op]) or any(found[i] for i in step.reads)] * count
    return [found[i] for i in spec.outputs]


def value_counts(spec: Spec) -> list[int]:
    """How many values each step makes."""
    net, values, counts = Net(spec), list(spec.rows()), []
    with torch.no_grad():
        for step in spec.steps:
            found = run_step(net.layers, step, [values[i] for i in step.reads])
            values.extend(found)
            counts.append(len(found))
    return counts


def _alike(
    spec: Spec, stage: str, program: Program, quantized: Program, rows: Flat, file: Flat, record: Record
) -> None:
    """The file's outputs are as near to the float program's as the graph's."""
    reference, graph = program.run_flat(*rows), quantized.run_flat(*rows)
    # Behind a jump one code decides a branch, and no distance says anything.
    jumps = behind(spec, lambda op: op.jumps)
    for i, (want, a, b) in enumerate(zip(reference, graph, file)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Broken(
                stage, f"output {i} is {b.dtype}{list(b.shape)}, the graph's {a.dtype}{list(a.shape)}"
            )
        if jumps[i] or not a.is_floating_point():
            continue
        record.counts[f"{stage} outputs"] += 1
        reason = codes.not_alike(want, a, b, quantized, rows, i)
        if reason:
            raise Broken(stage, f"output {i} (batch {a.shape[0]}): {reason}")
