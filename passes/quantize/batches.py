"""The user's data as flat inputs, in batches of the size that calibration likes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError, FxcError
from fxc.compiler.program import Program, check_inputs

BATCH = 4
"""Samples per forward. With 8 the large tensors of a 224-pixel net no longer come out of memory that was just freed:
glibc maps each anew, and the page faults cost more than the larger batch saves."""


def batches(program: Program, data: Iterable[Any]) -> Iterator[tuple[Tensor, ...]]:
    """Flat inputs from user data, regrouped to :data:`BATCH` samples where the batch is dynamic.

    Raises:
        CalibrationError: naming the position of the batch and what is wrong with it.
    """
    if not regroups(program):
        yield from (_flat(program, item, index) for index, item in enumerate(data))
        return
    held: list[tuple[Tensor, ...]] = []
    for index, item in enumerate(data):
        held.append(_flat(program, item, index))
        if sum(flat[0].shape[0] for flat in held) >= BATCH:
            *full, last = zip(*(column.split(BATCH) for column in joined(held)))
            yield from full
            held = [last]
            if last[0].shape[0] == BATCH:
                yield last
                held = []
    if held:
        yield joined(held)


def regroups(program: Program) -> bool:
    """Whether batches may be cut and joined: every input has the dynamic axis in front."""
    return bool(program.tensor_inputs) and all(s.shape[:1] == ("batch",) for s in program.tensor_inputs)


def joined(held: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Several batches of flat inputs as one."""
    return held[0] if len(held) == 1 else tuple(torch.cat(column) for column in zip(*held))


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
