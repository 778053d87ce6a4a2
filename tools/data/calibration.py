"""Calibration data from whatever the user names: an iterable of checked batches, always in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.program import InputSpec
from fxc.tools.data import arrays, images
from fxc.tools.data.checks import check_batch
from fxc.tools.data.preprocess import Preprocessing, given
from fxc.tools.data.pyfile import call_user, load_attribute
from fxc.tools.data.spec import DataSpec, parse_spec

Batch = tuple[Tensor, ...]
BATCH = 8
LIMIT = 512
"""Samples used where the user sets no limit; ranges hardly move beyond a few hundred images."""


@dataclass(frozen=True)
class CalibrationData:
    """Batches that fit a model's inputs; iterating again gives them again.

    Attributes:
        said: what is used, in one sentence for the report.
        count: number of samples, ``None`` where only iterating tells.
        warnings: what was left out, one sentence each.
        preprocessing: how images become tensors, ``None`` where the data is already tensors.
        make: starts a fresh iteration.
    """

    said: str
    count: int | None
    make: Callable[[], Iterator[Batch]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Batches: one tensor ``[samples, ...]`` per input, in the inputs' order.

        Raises:
            CalibrationError: a batch does not fit (lazily read sources only; files are checked on loading).
        """
        return self.make()


def load_calibration(
    spec: str | DataSpec,
    *,
    inputs: Sequence[InputSpec],
    size: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    limit: int | None = LIMIT,
) -> CalibrationData:
    """Calibration data for a model's tensor inputs.

    Args:
        spec: a folder of images, ``.npy``, ``.npz``, ``.pt``, or ``file.py:iterable``.
        inputs: the model's tensor inputs; the first axis of each counts samples.
        size, mean, std: the user's words on how images are prepared, over ``preprocessing``.
        preprocessing: the weights' own, where there are weights.
        limit: most samples used; a longer folder or file is sampled evenly.

    Raises:
        CalibrationError: missing, empty, unreadable, of the wrong shape or dtype, or not finite.
        UsageError: images for a model that does not take images, or a Python file that fails.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if limit is not None and limit < 1:
        raise CalibrationError(f"a limit of {limit} samples leaves no calibration data")
    if spec.kind == "images":
        one = _only_input(inputs)
        return _folder(spec, inputs, given(size, mean, std, one.shape, preprocessing), limit)
    if spec.kind == "python":
        return _python(spec, inputs, limit)
    return _arrays(spec, inputs, arrays.columns(spec, inputs), limit)


def static_batch(inputs: Sequence[InputSpec]) -> int | None:
    """The batch that the model is fixed to, ``None`` where it is free."""
    first = inputs[0].shape[:1] if inputs else ()
    return first[0] if first and isinstance(first[0], int) else None


def image_batches(
    files: Sequence[Path], inputs: Sequence[InputSpec], preprocessing: Preprocessing, name: str
) -> Iterator[Batch]:
    """Images as checked batches of the model's batch size, or of 8."""
    for start, stop in _slices(len(files), static_batch(inputs), name):
        stacked = torch.stack([preprocessing(images.read_image(path)) for path in files[start:stop]])
        yield check_batch(stacked, inputs, f"{files[start]} and the {stop - start - 1} after it")


def _folder(
    spec: DataSpec, inputs: Sequence[InputSpec], preprocessing: Preprocessing, limit: int | None
) -> CalibrationData:
    warnings: list[str] = []
    chosen = images.spread(images.image_files(spec.path), limit)
    files = images.readable(chosen, warnings.append)
    used, left = _used(len(files), static_batch(inputs), str(spec))
    next(image_batches(files[:1] * (static_batch(inputs) or 1), inputs, preprocessing, str(spec)))
    return CalibrationData(
        f"{used} images from {spec} ({preprocessing.said})",
        used,
        lambda: image_batches(files[:used], inputs, preprocessing, str(spec)),
        (*warnings, *left),
        preprocessing,
    )


def _arrays(
    spec: DataSpec, inputs: Sequence[InputSpec], data: Sequence[arrays.Column], limit: int | None
) -> CalibrationData:
    total = arrays.samples(data, str(spec))
    used, left = _used(min(total, limit or total), static_batch(inputs), str(spec))
    rows = images.spread(range(total), used)
    name = str(spec)

    def make() -> Iterator[Batch]:
        for start, stop in _slices(used, static_batch(inputs), name):
            picked = rows[start:stop]
            where = f"{name}, samples {picked[0]} to {picked[-1]}"
            yield check_batch(tuple(column[picked] for column in data), inputs, where)

    for _ in make():  # every batch is checked before a compile starts
        pass
    return CalibrationData(f"{used} samples from {spec}", used, make, left)


def _python(spec: DataSpec, inputs: Sequence[InputSpec], limit: int | None) -> CalibrationData:
    value = load_attribute(spec.path, spec.attribute)
    if isinstance(value, (Tensor, np.ndarray)):
        return _arrays(spec, inputs, (value,), limit)

    def source() -> Any:
        return call_user(spec.path, spec.attribute, value) if callable(value) else value

    if not callable(value) and not hasattr(value, "__iter__") and not hasattr(value, "__getitem__"):
        raise CalibrationError(
            f"{spec} is a {type(value).__name__}", fix="name an iterable, or a function that returns one"
        )
    once = not callable(value) and iter(value) is value
    batches = list(_checked(source(), inputs, spec, limit)) if once else []
    first = next(iter(batches), None) if once else next(_checked(source(), inputs, spec, limit), None)
    if first is None:
        raise CalibrationError(f"{spec} yields nothing", fix="yield at least one batch")
    make = (lambda: iter(batches)) if once else (lambda: _checked(source(), inputs, spec, limit))
    return CalibrationData(f"batches from {spec}", None, make)


def _checked(source: Any, inputs: Sequence[InputSpec], spec: DataSpec, limit: int | None) -> Iterator[Batch]:
    """Checked batches until ``limit`` samples were seen; the user's own failures keep their place in the message."""
    seen = 0
    iterator = call_user(spec.path, spec.attribute, lambda: iter(source))
    for number in range(limit if limit is not None else 1 << 62):
        got = call_user(spec.path, spec.attribute, lambda: list(islice(iterator, 1)))
        if not got or (limit is not None and seen >= limit):
            return
        batch = check_batch(got[0], inputs, f"{spec}, batch {number}")
        seen += batch[0].shape[0] if batch and batch[0].dim() else 1
        yield batch


def _slices(count: int, fixed: int | None, name: str) -> list[tuple[int, int]]:
    size = fixed or BATCH
    used, _ = _used(count, fixed, name)
    return [(start, min(start + size, used)) for start in range(0, used, size)]


def _used(count: int, fixed: int | None, name: str) -> tuple[int, tuple[str, ...]]:
    """How many samples whole batches take, and a warning for the rest."""
    rest = count % fixed if fixed else 0
    if count == rest:
        raise CalibrationError(
            f"{name} has {count} samples, the model is fixed to batches of {fixed}",
            fix="give more data, or compile with a free batch",
        )
    said = (
        (f"{name}: the last {rest} sample(s) do not fill a batch of {fixed} and are left out",)
        if rest
        else ()
    )
    return count - rest, said


def _only_input(inputs: Sequence[InputSpec]) -> InputSpec:
    if len(inputs) != 1:
        raise CalibrationError(
            f"a folder of images feeds one input, the model takes {len(inputs)}",
            why="; ".join(map(str, inputs)),
            fix="give the data as .npz, .pt or file.py:iterable",
        )
    return inputs[0]
