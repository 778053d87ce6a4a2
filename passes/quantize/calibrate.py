"""Calibration: one run over the data feeds every observer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError, FxcError
from fxc.compiler.execute import steps
from fxc.compiler.origin import where
from fxc.compiler.program import Program, check_inputs
from fxc.passes.quantize.annotation import quantizers
from fxc.passes.quantize.observers import HISTOGRAM_OBSERVERS
from fxc.passes.quantize.statistics import Statistics, TensorStats, Want

BATCH = 8
"""Samples per forward: 4 to 8 use the caches best on desktop CPUs, 16 is slower again."""

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
        programs: annotated (:class:`fxc.passes.quantize.annotate.Annotate`), still computing in float: one program, or
            several that were made from one capture, each for its own target. A tensor that several programs have is
            recorded once: nodes of one name hold the same values in all of them.
        data: batches: a tensor, a tuple of positional or a dict of keyword arguments each; or one tensor per tensor
            input, in the order of ``program.tensor_inputs``.
        wanted: further tensors to record, by node name, or more of those that annotation names.
        source: words for the report.
        progress: called with the number of samples done.

    Raises:
        CalibrationError: no data, wrong shape or dtype, values that are not finite.
    """
    programs = (programs,) if isinstance(programs, Program) else tuple(programs)
    watchers = _watchers(programs, wanted or {})
    first, done = programs[0], 0
    with torch.no_grad():
        for flat in batches(first, data):
            done += count_samples(first, flat)
            for watcher in watchers:
                watcher.observe(flat)
            if progress is not None:
                progress(done, None)
    if done == 0:
        raise CalibrationError("the calibration data is empty", fix="20 to 100 typical inputs are enough")
    for watcher in watchers:
        _check_finite(watcher)
    return Statistics({n: s for w in watchers for n, s in w.stats.items()}, done, source)


def wants(program: Program) -> dict[str, Want]:
    """What annotation wants recorded: node name to :class:`Want`."""
    found: dict[str, Want] = {}
    for quantizer in quantizers(program.graph):
        if quantizer.spec.fixed is None:
            want = Want(histogram=quantizer.spec.observer in HISTOGRAM_OBSERVERS)
            for name in quantizer.tensors:
                found[name] = want.joined(found.get(name, Want()))
    return found


def _watchers(programs: Sequence[Program], further: Mapping[str, Want]) -> list[_Watcher]:
    """One run per program that has tensors of its own; the others' are recorded on the way."""
    waiting = dict(further)
    for program in programs:
        for name, want in wants(program).items():
            waiting[name] = want.joined(waiting.get(name, Want()))
    watchers: list[_Watcher] = []
    for program in programs:
        here = {node.name for node in program.graph.nodes}
        wanted = {name: waiting.pop(name) for name in list(waiting) if name in here}
        if wanted or not watchers:
            watchers.append(_Watcher(program, wanted))
    return watchers


class _Watcher:
    def __init__(self, program: Program, wanted: Mapping[str, Want]):
        self.program, self.wanted = program, wanted
        self.stats = {name: TensorStats() for name in wanted}
        # The order of memory is no business of a model, unless it reads storage.
        self.any_order = not any(n.target is torch.ops.aten.as_strided.default for n in program.graph.nodes)

    def observe(self, flat: tuple[Tensor, ...]) -> None:
        """Run one batch; convolutions are faster on channels-last tensors."""
        inputs = tuple(_channels_last(x) for x in flat) if self.any_order else flat
        for node, value in steps(self.program, inputs):
            want = self.wanted.get(node.name)
            if want is not None:
                self.stats[node.name].update(value, histogram=want.histogram, channels=want.channels)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def batches(program: Program, data: Iterable[Any]) -> Iterator[tuple[Tensor, ...]]:
    """Flat inputs from user data, regrouped to :data:`BATCH` samples where the batch is dynamic.

    Raises:
        CalibrationError: naming the position of the batch and what is wrong with it.
    """
    dynamic = bool(program.tensor_inputs) and all(s.shape[:1] == ("batch",) for s in program.tensor_inputs)
    held: list[tuple[Tensor, ...]] = []
    for index, item in enumerate(data):
        flat = _flat(program, item, index)
        if not dynamic:
            yield flat
            continue
        held.append(flat)
        if sum(f[0].shape[0] for f in held) >= BATCH:
            yield from _chunks(held)
            held = []
    if held:
        yield from _chunks(held)


def _chunks(held: list[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    joined = held[0] if len(held) == 1 else tuple(torch.cat(column) for column in zip(*held))
    return zip(*(column.split(BATCH) for column in joined))


def _flat(program: Program, item: Any, index: int) -> tuple[Tensor, ...]:
    place = f"calibration batch {index}"
    if isinstance(item, (tuple, list)) and len(item) > len(program.inputs):
        raise CalibrationError(
            f"a batch holds {len(item)} values, {program.name} takes {len(program.inputs)} input(s)",
            where=place,
            fix="give the model's inputs only, without labels: (image for image, label in loader)",
        )
    try:
        if _is_flat(program, item):
            check_inputs(program.name, program.tensor_inputs, list(item))
            flat = tuple(item)
        elif isinstance(item, Mapping):
            flat = program.flatten((), item)
        else:
            flat = program.flatten(tuple(item) if isinstance(item, (tuple, list)) else (item,))
    except FxcError as error:
        raise CalibrationError(error.what, where=place, why=error.why, fix=error.fix) from error
    for spec, tensor in zip(program.tensor_inputs, flat):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CalibrationError(
                f"input {spec.name} contains NaN or infinity", where=place, fix="remove or repair that sample"
            )
    return tuple(tensor.detach() for tensor in flat)


def _is_flat(program: Program, item: Any) -> bool:
    """One tensor per tensor input: enough for a model with nested, keyword or constant arguments too."""
    return (
        isinstance(item, (tuple, list))
        and len(item) == len(program.tensor_inputs)
        and all(isinstance(value, Tensor) for value in item)
    )


def count_samples(program: Program, flat: tuple[Tensor, ...]) -> int:
    """Samples in a call: the dynamic axis if there is one (an input beside it may have another length)."""
    free = [
        x for spec, x in zip(program.tensor_inputs, flat) if spec.shape and isinstance(spec.shape[0], str)
    ]
    return next((x.shape[0] for x in (*free, *flat) if x.dim()), 1)


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
