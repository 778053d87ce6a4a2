"""Instruments watch a pipeline run: time it, check it, dump it, stop it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fxc.compiler.errors import PassError
from fxc.compiler.origin import where
from fxc.compiler.passbase import Pass, PassResult
from fxc.compiler.program import Program
from fxc.compiler.record import first_divergence, save_reproducer
from fxc.compiler.text import same_computation, value_text


class Instrument:
    """Base of all instruments; every hook may be left out."""

    def begin(self, program: Program) -> None:
        """Before the first pass."""

    def before(self, step: Pass, program: Program) -> None:
        """Before a pass."""

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """After a pass; raising stops the pipeline."""

    def end(self, program: Program) -> None:
        """After the last pass."""


@dataclass
class Timer(Instrument):
    """Wall-clock seconds of every pass, in order, as ``(text form, seconds)``."""

    seconds: list[tuple[str, float]] = field(default_factory=list)
    _start: float = 0.0

    def before(self, step: Pass, program: Program) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Stop the clock."""
        self.seconds.append((step.text(), time.perf_counter() - self._start))


@dataclass(frozen=True)
class Entry:
    """What one pass did: nodes ``added`` and ``removed`` count ``call_function`` nodes by name."""

    text: str
    modified: bool
    added: int
    removed: int


@dataclass
class Journal(Instrument):
    """What every pass did, in order."""

    entries: list[Entry] = field(default_factory=list)

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Compare the graphs' node names."""
        added = removed = 0
        if result.modified:
            old, new = _calls(before), _calls(result.program)
            added, removed = len(new - old), len(old - new)
        self.entries.append(Entry(step.text(), result.modified, added, removed))


def _calls(program: Program) -> set[str]:
    return {node.name for node in program.graph.nodes if node.op == "call_function"}


@dataclass
class Verify(Instrument):
    """Checks every pass's promise on sample inputs, and ``modified=False`` by identity.

    A pass that leaves the operators and tensors as they were (an annotation) cannot move a number, and a lossy one
    promises none: neither is run for, the shapes and dtypes that a lossy one promises are compared as the graph has them.

    Attributes:
        inputs: flat sample inputs; the program's own examples by default.
        seconds: total time spent on checking.
        drift: per pass that modified the program, the largest relative error it caused on any output; ``None`` if it
            promised nothing.
    """

    inputs: tuple[Tensor, ...] | None = None
    seconds: float = 0.0
    drift: list[tuple[str, float | None]] = field(default_factory=list)
    _reference: tuple[Tensor, ...] | None = None

    def fork(self) -> Verify:
        """Checks that go on from here on their own, for one of several ways that a program is taken from here."""
        return replace(self, drift=list(self.drift))

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Run the new program and compare with the one before.

        Raises:
            PassError: naming the pass and the output that broke its promise.
        """
        start = time.perf_counter()
        if not result.modified:
            if result.program.graph_module is not before.graph_module:
                raise PassError(f"{step.text()} said modified=False but returned another graph")
            return
        if step.promise.kind == "lossy":
            self._check_signature(step, before, result.program)
            # What comes next answers for itself.
            self._reference = None
        elif same_computation(before, result.program):
            self.drift.append((step.text(), 0.0))
        else:
            self._check_numbers(step, before, result.program)
        self.seconds += time.perf_counter() - start

    def _check_signature(self, step: Pass, before: Program, after: Program) -> None:
        self.drift.append((step.text(), None))
        for spec, a, b in zip(before.outputs, before.output_nodes(), after.output_nodes(), strict=True):
            old, new = value_text(a.meta["val"]), value_text(b.meta["val"])
            if old != new:
                raise PassError(
                    f"{step.text()} turned output {spec.name} from {old} into {new}", where=where(b)
                )

    def _check_numbers(self, step: Pass, before: Program, after: Program) -> None:
        inputs = self.inputs if self.inputs is not None else before.example_inputs
        if self._reference is None:
            self._reference = _run(before, inputs)
        outputs = _run(after, inputs)
        broken = self._broken(step, after, self._reference, outputs)
        if broken is not None:
            raise self._error(step, before, after, inputs, broken)
        self._reference = outputs

    def _broken(
        self, step: Pass, program: Program, want: tuple[Tensor, ...], got: tuple[Tensor, ...]
    ) -> str | None:
        """The sentence that says which output broke the promise, or ``None``; keeps the drift."""
        worst = 0.0
        for spec, a, b in zip(program.outputs, want, got):
            error = relative_error(a, b)
            worst = max(worst, error)
            if not error <= _allowed(step) or a.shape != b.shape or a.dtype != b.dtype:
                return f"{step.text()} promised {step.promise.kind} numbers, output {spec.name} moved by {error:.3g}"
        self.drift.append((step.text(), worst))
        return None

    def _error(
        self, step: Pass, before: Program, after: Program, inputs: tuple[Tensor, ...], what: str
    ) -> PassError:
        allowed = _allowed(step)
        layer = first_divergence(before, after, inputs, lambda a, b: not relative_error(a, b) <= allowed)
        folder = save_reproducer(before, step.text(), inputs)
        return PassError(
            what,
            where=layer,
            why=f"allowed: {allowed:g} (relative, 2-norm and maximum)",
            fix=f"report this with the reproducer in {folder}; fxc.compile(skip=[{step.name!r}]) leaves the pass out",
        )


def _run(program: Program, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # A model that draws random numbers draws the same ones each time, and not from the user's generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return program.run_flat(*inputs)


def _allowed(step: Pass) -> float:
    return {"exact": 0.0, "close": step.promise.tolerance, "lossy": float("inf")}[step.promise.kind]


@dataclass
class StopAfter(Instrument):
    """Stops the pipeline after ``count`` passes, for bisection."""

    count: int
    seen: int = 0

    def after(self, step: Pass, before: Program, result: PassResult) -> None:
        """Count."""
        self.seen += 1


def relative_error(want: Tensor, got: Tensor) -> float:
    """The larger of ‖a-b‖₂/‖a‖₂ and max|a-b|/max|a|; exact equality is 0, NaN in one place only is infinite."""
    if want.shape != got.shape:
        return float("inf")
    if torch.equal(want, got) or want.numel() == 0:
        return 0.0
    a, b = want.double(), got.double()
    nan = a.isnan()
    infinite = a.isinf()
    if not torch.equal(nan, b.isnan()) or not torch.equal(infinite, b.isinf()):
        return float("inf")
    if not torch.equal(a[infinite], b[infinite]):
        return float("inf")
    keep = a.isfinite()
    a, b = a[keep], b[keep]
    if a.numel() == 0:
        return 0.0
    difference, size = a - b, a.norm().clamp_min(torch.finfo(torch.float32).tiny)
    largest = a.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float(max(difference.norm() / size, difference.abs().max() / largest))
