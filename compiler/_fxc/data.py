"""The data of one compile: the user's calibration data or images made from the model, and the samples of the proofs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from fxc.compiler.errors import CalibrationError, FxcError, InputError
from fxc.compiler.program import Program, check_inputs
from fxc.passes.image_input import ImageInput
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

    def encoded(self, image: ImageInput | None) -> Data:
        """The same as a program takes it whose input became an image."""
        if image is None:
            return self
        samples, tuning = (tuple(map(image.encode, flat)) for flat in (self.samples, self.tuning))
        rest = (tuple(map(image.encode, flat)) for flat in self.rest)
        return replace(self, samples=samples, tuning=tuning, rest=rest)


def gather(program: Program, given: Any, *, wanted: bool, image: ImageInput | None = None) -> Data:
    """The data of one compile.

    Args:
        program: canonical, with its batch norms alive: images are synthesised from them if nothing was given.
        given: the user's calibration data, or ``None``. Its ``said`` attribute, if it has one, names it in the report.
        wanted: whether any target needs data at all.
        image: what will turn the program's input into an image; the data comes back as such images, and may be given so.

    Raises:
        CalibrationError: not an iterable of batches, empty, or of another shape than the program's inputs.
    """
    return _gathered(program, given, wanted, image).encoded(image)


def _gathered(program: Program, given: Any, wanted: bool, image: ImageInput | None) -> Data:
    if given is not None:
        data, source = _iterate(given), str(getattr(given, "said", "calibration data"))
        data = map(image.decode, data) if image is not None else data
    elif wanted:
        made, source = synthesize(program)
        data = iter(made)
    else:
        return Data(program.example_inputs, (), iter(()), "the example inputs", False)
    tuning, rest = _peel(program, data)
    return Data(program.first_rows(tuning, PROOF_SAMPLES), tuning, rest, source, given is not None)


def recorded(program: Program, statistics: Statistics) -> Data:
    """What statistics offer in the place of data: the few samples that they keep.

    Raises:
        CalibrationError: the samples are no inputs of this program.
    """
    tuning = statistics.samples or program.example_inputs
    _check_samples(program, tuning)
    samples = program.first_rows(tuning, PROOF_SAMPLES)
    return Data(samples, tuning, iter(()), statistics.source, True)


def _check_samples(program: Program, samples: tuple[Tensor, ...]) -> None:
    wanted = program.tensor_inputs
    wrong = f"{len(samples)} inputs, not {len(wanted)}" if len(samples) != len(wanted) else None
    try:
        check_inputs(program.name, wanted, list(samples))
    except InputError as error:
        wrong = wrong or error.what
    if wrong is not None:
        raise CalibrationError(
            "these calibration statistics belong to another program",
            why=f"of the samples that they keep: {wrong}",
            fix="calibrate this model again",
        )


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
