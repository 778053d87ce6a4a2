"""``select_observer``: each tensor whose observer is ``auto`` gets the one that serves its readers best, by measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.compiler.quant import QuantSpec
from fxc.passes.quantize.annotation import NodeQuant, Quantizer, quant_of, quantizers, set_quant
from fxc.passes.quantize.histogram import Histogram
from fxc.passes.quantize.observers import observe
from fxc.passes.quantize.qparams import QParams, qparams
from fxc.passes.quantize.statistics import Statistics, TensorStats

AUTO = "auto"
_PERCENTILES = (99.9, 99.99, 99.999)
_CAUTION = 4.0
"""Weight of clipping errors: they fall on few samples, and unseen data reaches further than calibration did."""
_SAME = 0.02
"""Ranges that differ by less than this are one candidate."""


@dataclass(frozen=True)
class SelectObserver(Pass):
    """Replace the observer ``auto`` of an annotated program by the best of the others, tensor by tensor.

    Candidates are the ranges that min/max, moving average, percentiles, MSE and entropy find in the statistics. Each codes
    the tensor on a few samples, and the error goes through the layers that read it: a convolution sees that a clipped tail
    is one-sided and adds up, where rounding averages out, and that an error in a channel that it hardly reads costs little.
    The smallest error relative to the layers' outputs wins; ties go to the simpler observer.

    Options:
        samples: flat inputs; two to eight rows are enough, since every value of a tensor counts.
        statistics: with histograms, of the annotated program.
    """

    name: ClassVar[str] = "select_observer"
    promise: ClassVar[Promise] = EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"annotated"})
    samples: tuple[Tensor, ...] = field(default=(), compare=False)
    statistics: Statistics = field(default_factory=Statistics, compare=False)

    def apply(self, program: Program) -> PassResult:
        """One float run over the samples; every candidate of a tensor goes through each of its readers."""
        open_ones = [q for q in quantizers(program.graph) if q.spec.observer == AUTO and q.spec.fixed is None]
        if not open_ones:
            return PassResult(program, modified=False)
        judge = _Judge(program, {q: _candidates(q, self.statistics) for q in open_ones})
        with torch.no_grad():
            judge.run(*self.samples, enable_io_processing=False)
        editor = Editor(program, self.name)
        chosen = {q: judge.best(q) for q in open_ones}
        _install(editor.graph, chosen)
        counts = Counter(_words(spec) for spec in chosen.values())
        kinds = ", ".join(f"{n} {word}" for word, n in counts.most_common())
        editor.note(f"observers chosen by the error at the readers, {len(chosen)} scales: {kinds}")
        return PassResult(editor.finish(), modified=True, notes=tuple(editor.notes))


def _words(spec: QuantSpec) -> str:
    return f"percentile {spec.percentile:g}" if spec.observer == "percentile" else spec.observer


@dataclass(frozen=True)
class _Candidate:
    """A range, and the energy of its errors over all calibration data: rounding inside, clipping outside."""

    spec: QuantSpec
    found: QParams
    rounding: float
    clipping: float


def _candidates(quantizer: Quantizer, statistics: Statistics) -> list[_Candidate]:
    """Candidates whose ranges differ, simpler observers first."""
    stats = _stats(quantizer, statistics)
    kept: list[_Candidate] = []
    if stats is None or stats.histogram is None:
        return [_Candidate(quantizer.spec.but(observer="minmax"), QParams(1.0, 0), 0.0, 0.0)]
    for spec in _specs(quantizer.spec):
        low, high = observe(stats, spec)
        smallest, largest = quantizer.useful
        found = qparams(max(low, smallest), min(high, largest), spec)
        if not any(_alike(found, other.found) for other in kept):
            kept.append(_Candidate(spec, found, *_energies(stats.histogram, found, spec, quantizer.useful)))
    return kept


def _energies(
    histogram: Histogram, found: QParams, spec: QuantSpec, useful: tuple[float, float]
) -> tuple[float, float]:
    x = histogram.centres().clip(*useful)
    low, high = (spec.qmin - found.zero_point) * found.scale, (spec.qmax - found.zero_point) * found.scale
    inside = (x >= low - found.scale / 2) & (x <= high + found.scale / 2)
    outside = np.where(inside, 0.0, x - x.clip(low, high))
    # Inside a histogram bin rounding errors are spread evenly: step^2 / 12.
    return (
        float(histogram.counts[inside].sum()) * found.scale**2 / 12.0,
        float((histogram.counts * outside**2).sum()),
    )


def _specs(spec: QuantSpec) -> Iterator[QuantSpec]:
    yield spec.but(observer="minmax")
    yield spec.but(observer="moving_average")
    for percentile in sorted({*_PERCENTILES, spec.percentile}, reverse=True):
        yield spec.but(observer="percentile", percentile=percentile)
    yield spec.but(observer="mse")
    yield spec.but(observer="entropy")


def _stats(quantizer: Quantizer, statistics: Statistics) -> TensorStats | None:
    merged: TensorStats | None = None
    for name in quantizer.tensors:
        stats = statistics.tensors.get(name)
        if stats is not None and stats.batches:
            merged = stats if merged is None else merged.merged(stats)
    return merged


def _alike(a: QParams, b: QParams) -> bool:
    return abs(a.scale - b.scale) <= _SAME * b.scale and abs(a.zero_point - b.zero_point) <= 2


class _Judge(fx.Interpreter):
    """Runs the float program and measures, per scale, what its readers make of a rounding and of a clipping error."""

    def __init__(self, program: Program, candidates: Mapping[Quantizer, list[_Candidate]]):
        super().__init__(program.graph_module)
        self.candidates = candidates
        self.gains: dict[Quantizer, tuple[float, float]] = {}

    def best(self, quantizer: Quantizer) -> QuantSpec:
        """The candidate with the least error at the readers."""
        rounding, clipping = self.gains.get(quantizer, (1.0, 1.0))
        return min(
            self.candidates[quantizer], key=lambda c: c.rounding * rounding + c.clipping * clipping * _CAUTION
        ).spec

    def run_node(self, n: fx.Node) -> Any:
        annotation = quant_of(n)
        for index, quantizer in (annotation.inputs if annotation is not None else {}).items():
            if len(self.candidates.get(quantizer, ())) > 1 and n.target in (*CONVOLUTIONS, *LINEAR):
                self._judge(n, self.env[n.all_input_nodes[index]], quantizer)
        return super().run_node(n)

    def _judge(self, node: fx.Node, x: Tensor, quantizer: Quantizer) -> None:
        weight, target = self.env[node.args[1]], node.target  # type: ignore[index]

        def gain(error: Tensor) -> float:
            y = target(error, weight, None, *node.args[3:])  # type: ignore[operator]
            return float(y.square().sum()) / max(float(error.square().sum()), 1e-30)

        signal = max(gain(x), 1e-30)
        wide = max(self.candidates[quantizer], key=lambda c: c.found.scale)
        narrow = min(self.candidates[quantizer], key=lambda c: c.found.scale)
        clipped = _clipped(x, narrow)
        rounding = gain(_coded(x, wide) - x) / signal
        clipping = gain(clipped) / signal if bool(clipped.any()) else rounding
        known = self.gains.get(quantizer, (0.0, 0.0))
        self.gains[quantizer] = known[0] + rounding, known[1] + clipping


def _clipped(x: Tensor, candidate: _Candidate) -> Tensor:
    spec, found = candidate.spec, candidate.found
    low, high = (spec.qmin - found.zero_point) * found.scale, (spec.qmax - found.zero_point) * found.scale
    return x.clamp(low, high) - x


def _coded(x: Tensor, candidate: _Candidate) -> Tensor:
    spec, found = candidate.spec, candidate.found
    dtype = getattr(torch, spec.dtype)
    codes = QUANTIZE_TENSOR(x, found.scale, found.zero_point, spec.qmin, spec.qmax, dtype)
    coded: Tensor = DEQUANTIZE_TENSOR(codes, found.scale, found.zero_point)
    return coded


def _install(graph: fx.Graph, chosen: Mapping[Quantizer, QuantSpec]) -> None:
    """New quantizers for the chosen ones, one for one; the input program keeps its own."""
    new = {old: Quantizer(spec, list(old.tensors), old.useful) for old, spec in chosen.items()}
    for node in graph.nodes:
        kept = quant_of(node)
        if kept is not None:
            inputs = {index: new.get(q, q) for index, q in kept.inputs.items()}
            output = new.get(kept.output, kept.output) if kept.output is not None else None
            set_quant(node, NodeQuant(kept.rule, inputs, output, kept.weight, kept.prefers_sharing))
