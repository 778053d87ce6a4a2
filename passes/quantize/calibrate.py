"""Calibration: one run over the data feeds every observer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.execute import fast_order, steps
from fxc.compiler.macs import macs
from fxc.compiler.origin import where
from fxc.compiler.prepack import Packed
from fxc.compiler.program import Program
from fxc.passes.quantize.annotation import quantizers
from fxc.passes.quantize.batches import batches, count_samples
from fxc.passes.quantize.float_run import FloatRun
from fxc.passes.quantize.observers import HISTOGRAM_OBSERVERS
from fxc.passes.quantize.probe import Channels, Probed, channels_of, probed_axes
from fxc.passes.quantize.statistics import Statistics, TensorStats, Want

Progress = Callable[[int, int | None], None]


def calibrate(
    programs: Program | Sequence[Program],
    data: Iterable[Any],
    *,
    wanted: Mapping[str, Want] | None = None,
    source: str = "calibration data",
    progress: Progress | None = None,
) -> Statistics:
    """Run ``data`` once and collect statistics of every tensor that will be quantized, for every observer at once.

    Args:
        programs: as :class:`Calibration` takes them; one of them may stand alone.
        data: batches: a tensor, a tuple of positional or a dict of keyword arguments each; or one tensor per tensor
            input, in the order of ``program.tensor_inputs``.
        wanted: further tensors to record, by node name, or more of those that annotation names.
        source: words for the report.
        progress: called with the number of samples done.

    Raises:
        CalibrationError: no data, wrong shape or dtype, values that are not finite.
    """
    programs = (programs,) if isinstance(programs, Program) else tuple(programs)
    run = Calibration(programs, wanted)
    run.over(batches(programs[0], data), progress)
    return run.statistics(source)


class Calibration:
    """A run over data under way: fed batch by batch, by whoever has to look at the first one before the others.

    Attributes:
        samples: how many it has seen.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        wanted: Mapping[str, Want] | None = None,
        *,
        probing: Program | None = None,
    ):
        """Nothing runs yet.

        Args:
            programs: annotated (:class:`fxc.passes.quantize.annotate.Annotate`), still computing in float: one program,
                or several that were made from one capture, each for its own target. A tensor that several programs have
                is recorded once: nodes of one name hold the same values in all of them.
            wanted: further tensors to record, by node name, or more of those that annotation names.
            probing: the program that all were made from, if :meth:`probe` is going to be called.
        """
        self._probing = probing
        axes = probed_axes(probing.graph) if probing is not None else {}
        everything = (*programs, probing) if probing is not None else tuple(programs)
        self._first = everything[0]
        self._watchers = _watchers(everything, wanted or {}, axes)
        self.samples = 0

    def probe(self, flat: tuple[Tensor, ...]) -> Probed:
        """Feed one batch, and look at the channels of what the layers read."""
        assert self._probing is not None, "made without a program to probe"
        probed = Probed(self._probing, run=FloatRun.of(self._watchers[0].program, flat))
        self.samples += count_samples(self._first, flat)
        self._watchers[0].observe(flat, probed.channels, probed.run)
        for watcher in self._watchers[1:]:
            watcher.observe(flat, probed.channels)
        return probed

    def over(self, data: Iterable[tuple[Tensor, ...]], progress: Progress | None = None) -> None:
        """Feed batches of flat inputs; ``progress`` is called with the number of samples done."""
        for flat in data:
            self.samples += count_samples(self._first, flat)
            for watcher in self._watchers:
                watcher.observe(flat)
            if progress is not None:
                progress(self.samples, None)

    def statistics(self, source: str) -> Statistics:
        """What was seen.

        Raises:
            CalibrationError: nothing was, or values that are not finite.
        """
        if self.samples == 0:
            raise CalibrationError("the calibration data is empty", fix="20 to 100 typical inputs are enough")
        for watcher in self._watchers:
            watcher.packed = None  # the packed weights take as much memory as the model
            _check_finite(watcher)
        found = {name: stats for watcher in self._watchers for name, stats in watcher.stats.items()}
        return Statistics(found, self.samples, source)


def wants(program: Program) -> dict[str, Want]:
    """What annotation wants recorded: node name to :class:`Want`."""
    found: dict[str, Want] = {}
    for quantizer in quantizers(program.graph):
        if quantizer.spec.fixed is None:
            want = Want(histogram=quantizer.spec.observer in HISTOGRAM_OBSERVERS)
            for name in quantizer.tensors:
                found[name] = want.joined(found.get(name, Want()))
    return found


def _watchers(
    programs: Sequence[Program], further: Mapping[str, Want], axes: Mapping[str, int]
) -> list[_Watcher]:
    """One run per program that has tensors of its own; the others' are recorded on the way."""
    waiting, unprobed = dict(further), dict(axes)
    for program in programs:
        for name, want in wants(program).items():
            waiting[name] = want.joined(waiting.get(name, Want()))
    watchers: list[_Watcher] = []
    # What a target rewrote into several nodes has the plain program's tensors too, but not the other way round.
    for program in sorted(programs, key=lambda p: -len(p.graph.nodes)):
        here = {node.name for node in program.graph.nodes}
        wanted = {name: waiting.pop(name) for name in list(waiting) if name in here}
        probed = {name: unprobed.pop(name) for name in list(unprobed) if name in here}
        if wanted or probed or not watchers:
            watchers.append(_Watcher(program, wanted, probed))
    return watchers


class _Watcher:
    def __init__(self, program: Program, wanted: Mapping[str, Want], axes: Mapping[str, int]):
        self.program, self.wanted, self.axes = program, wanted, axes
        self.stats = {name: TensorStats() for name in wanted}
        self.packed: Packed | None = None

    def observe(
        self, flat: tuple[Tensor, ...], probed: dict[str, Channels] | None = None, run: FloatRun | None = None
    ) -> None:
        """Run one batch, where there is anything to see; channels and values are put into what is given for them."""
        if not self.wanted and probed is None:
            return
        if self.packed is None:
            self.packed = Packed(self.program, flat[0].shape[0] if flat and flat[0].dim() else 1)
        calls = self.packed.calls(self._seen(probed is not None, run is not None))
        for node, value in steps(self.program, fast_order(self.program, flat), calls):
            want, axis = self.wanted.get(node.name), self.axes.get(node.name)
            if want is not None:
                self.stats[node.name].update(value, histogram=want.histogram, channels=want.channels)
            if probed is not None and axis is not None and value.dim():
                probed[node.name] = channels_of(value, axis)
            if run is not None:
                run.see(node, value)

    def _seen(self, probed: bool, kept: bool) -> set[str]:
        """Names of the nodes whose values :meth:`observe` looks at."""
        seen = {*self.wanted, *(self.axes if probed else ())}
        if kept:
            seen.update(node.name for node in self.program.graph.nodes if macs(node) > 0)
        return seen


def _check_finite(watcher: _Watcher) -> None:
    nodes = {n.name: n for n in watcher.program.graph.nodes}
    for name, stats in watcher.stats.items():
        if stats.batches and not (abs(stats.low) < float("inf") and abs(stats.high) < float("inf")):
            raise CalibrationError(
                "the model's own value becomes infinite or NaN on the calibration data",
                where=where(nodes[name]),
                why="the calibration inputs are finite, so the float model itself overflows or divides by zero here",
                fix="check the model's weights and the preprocessing of the inputs, or keep the layer in float",
            )
