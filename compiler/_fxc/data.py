"""The data of one compile: the user's calibration data or images made from the model, and the samples of the proofs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from fxc.compiler.errors import CalibrationError, FxcError
from fxc.compiler.program import Program
from fxc.passes.quantize.batches import batches, count_samples, joined, regroups
from fxc.passes.quantize.statistics import Statistics
from fxc.passes.quantize.synthesize import synthesize

PROOF_SAMPLES = 4
"""Samples on which the float program, the quantized graph and the emitted file are compared."""

TUNING_SAMPLES = 8
"""Samples on which quantization is tuned: channels equalized, observers chosen, biases corrected."""


@dataclass
class Data:
    """Calibration data and the few samples that proofs use.

    Attributes:
        samples: flat inputs, at most :data:`PROOF_SAMPLES` rows each.
        tuning: flat inputs, at most :data:`TUNING_SAMPLES` rows each.
        rest: all the data, as batches of flat inputs.
        source: where the data comes from, in words.
        given: whether the user gave it.
    """

    samples: tuple[Tensor, ...]
    tuning: tuple[Tensor, ...]
    rest: Iterator[tuple[Tensor, ...]]
    source: str
    given: bool


def gather(program: Program, given: Any, *, quantized: bool) -> Data:
    """The data of one compile.

    Args:
        program: canonical, with its batch norms alive: images are synthesised from them if nothing was given.
        given: the user's calibration data, or ``None``. Its ``said`` attribute, if it has one, names it in the report.
        quantized: whether the target needs calibration at all.

    Raises:
        CalibrationError: not an iterable of batches, empty, or of another shape than the program's inputs.
    """
    if given is not None:
        data, source = _iterate(given), str(getattr(given, "said", "calibration data"))
    elif quantized:
        made, source = synthesize(program)
        data = iter(made)
    else:
        return Data(program.example_inputs, (), iter(()), "the example inputs", False)
    tuning, rest = _peel(program, data)
    return Data(program.first_rows(tuning, PROOF_SAMPLES), tuning, rest, source, given is not None)


def recorded(program: Program, statistics: Statistics) -> Data:
    """What statistics offer in the place of data: the few samples that they keep."""
    tuning = statistics.samples or program.example_inputs
    samples = program.first_rows(tuning, PROOF_SAMPLES)
    return Data(samples, tuning, iter(()), statistics.source, True)


def _iterate(data: Any) -> Iterator[Any]:
    """The batches of whatever a user calls calibration data; one tensor or one dictionary is one batch.

    Raises:
        CalibrationError: nothing to iterate over, or the user's own code failed, with the batch it failed at.
    """
    if isinstance(data, (Tensor, Mapping)):
        data = (data,)
    if isinstance(data, (str, bytes, Path)) or not isinstance(data, Iterable) or hasattr(data, "__array__"):
        raise CalibrationError(
            f"calibration_data takes an iterable of batches, got {type(data).__name__}",
            fix="pass a DataLoader or a list of tensors; of files and folders, fxc compile --calibration-data reads them",
        )
    return _guarded(data)


def _guarded(data: Iterable[Any]) -> Iterator[Any]:
    number = 0
    try:
        for item in data:
            yield item
            number += 1
    except FxcError:
        raise
    except Exception as error:
        raise CalibrationError(
            f"the calibration data failed: {type(error).__name__}: {error}",
            where=f"calibration batch {number}",
            why="iterating over it raised this error",
        ) from error


def _peel(program: Program, data: Iterator[Any]) -> tuple[tuple[Tensor, ...], Iterator[tuple[Tensor, ...]]]:
    """The samples that tuning and proofs use, out of as few batches as hold them, and all the data."""
    flats = batches(program, data)
    held: list[tuple[Tensor, ...]] = []
    for flat in flats:
        held.append(flat)
        if not regroups(program) or sum(count_samples(program, f) for f in held) >= TUNING_SAMPLES:
            break
    if not held:
        raise CalibrationError(
            "the calibration data is empty",
            fix="20 to 100 typical inputs are enough; a consumed iterator is empty too",
        )
    tuning = program.first_rows(joined(held), TUNING_SAMPLES)
    return tuning, chain(held, flats)
