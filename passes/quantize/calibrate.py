"""Calibration: one run over the data feeds every observer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.errors import CalibrationError, FxcError
from fxc.compiler.origin import where
from fxc.compiler.program import Program, check_inputs
from fxc.passes.quantize.annotation import quantizers
from fxc.passes.quantize.observers import HISTOGRAM_OBSERVERS
from fxc.passes.quantize.statistics import Statistics, TensorStats

BATCH = 8
"""Samples per forward: 4 to 8 use the caches best on desktop CPUs, 16 is slower again."""

Progress = Callable[[int, int | None], None]


def calibrate(
    program: Program,
    data: Iterable[Any],
    *,
    source: str = "calibration data",
    progress: Progress | None = None,
) -> Statistics:
    """Run ``data`` through an annotated program and collect statistics of every tensor that will be quantized.

    Args:
        program: annotated (:class:`fxc.passes.quantize.annotate.Annotate`); still computes in float.
        data: batches: a tensor, a tuple of positional or a dict of keyword arguments each; or one tensor per tensor
            input, in the order of ``program.tensor_inputs``.
        source: words for the report.
        progress: called with the number of samples done.

    Raises:
        CalibrationError: no data, wrong shape or dtype, values that are not finite.
    """
    wanted = _wanted(program)
    watcher = _Watcher(program.graph_module, wanted)
    done = 0
    with torch.no_grad():
        for flat in batches(program, data):
            watcher.run(*flat, enable_io_processing=False)
            done += count_samples(program, flat)
            if progress is not None:
                progress(done, None)
    if done == 0:
        raise CalibrationError("the calibration data is empty", fix="20 to 100 typical inputs are enough")
    statistics = Statistics(watcher.stats, done, source)
    _check_finite(program, statistics)
    return statistics


def _wanted(program: Program) -> dict[str, bool]:
    """Names of the nodes to observe, and whether a histogram is needed."""
    wanted: dict[str, bool] = {}
    for quantizer in quantizers(program.graph):
        if quantizer.spec.fixed is None:
            for name in quantizer.tensors:
                wanted[name] = wanted.get(name, False) or quantizer.spec.observer in HISTOGRAM_OBSERVERS
    return wanted


class _Watcher(fx.Interpreter):
    def __init__(self, graph_module: fx.GraphModule, wanted: Mapping[str, bool]):
        super().__init__(graph_module)
        self.wanted = wanted
        self.stats = {name: TensorStats() for name in wanted}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        histogram = self.wanted.get(n.name)
        if histogram is not None:
            self.stats[n.name].update(result, histogram=histogram)
        return result


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


def _check_finite(program: Program, statistics: Statistics) -> None:
    nodes = {n.name: n for n in program.graph.nodes}
    for name, stats in statistics.tensors.items():
        if stats.batches and not (abs(stats.low) < float("inf") and abs(stats.high) < float("inf")):
            raise CalibrationError(
                "the model's own value becomes infinite or NaN on the calibration data",
                where=where(nodes[name]),
                why="the calibration inputs are finite, so the float model itself overflows or divides by zero here",
                fix="check the model's weights and the preprocessing of the inputs, or keep the layer in float",
            )
