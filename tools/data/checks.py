"""One batch against the inputs it must fit: count, dtype, shape, and every value a finite number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.program import InputSpec


def check_batch(batch: Any, inputs: Sequence[InputSpec], where: str) -> tuple[Tensor, ...]:
    """The batch as one tensor per input, in the inputs' order.

    Args:
        batch: a tensor or array, a tuple or list of them in the inputs' order, or a dict by input name.
        inputs: the model's tensor inputs.
        where: file and batch, for the message.

    Raises:
        CalibrationError: wrong count, dtype or shape, no samples, NaN or infinity.
    """
    values = _in_order(batch, inputs, where)
    tensors = tuple(_checked(value, spec, where) for value, spec in zip(values, inputs))
    sizes = {t.shape[0] for t in tensors if t.dim()}
    if len(sizes) > 1:
        raise CalibrationError(
            f"the inputs of one batch have different sample counts: {sorted(sizes)}", where=where
        )
    return tensors


def _in_order(batch: Any, inputs: Sequence[InputSpec], where: str) -> list[Any]:
    if isinstance(batch, (Tensor, np.ndarray)):
        batch = (batch,)
    if isinstance(batch, Mapping):
        missing = [spec.name for spec in inputs if spec.name not in batch]
        if missing:
            raise CalibrationError(
                f"a batch lacks the input {missing[0]!r}",
                where=where,
                why=f"it has {', '.join(map(str, batch)) or 'nothing'}; the model takes {_names(inputs)}",
            )
        return [batch[spec.name] for spec in inputs]
    if not isinstance(batch, (tuple, list)):
        raise CalibrationError(
            f"a batch is a {type(batch).__name__}",
            where=where,
            fix="yield a tensor, a tuple of tensors or a dict by input name",
        )
    if len(batch) != len(inputs):
        raise CalibrationError(
            f"a batch holds {len(batch)} values, the model takes {len(inputs)}: {_names(inputs)}",
            where=where,
            fix="yield the model's inputs only, without labels",
        )
    return list(batch)


def _checked(value: Any, spec: InputSpec, where: str) -> Tensor:
    if not isinstance(value, (Tensor, np.ndarray)):
        raise CalibrationError(f"input {spec.name} is a {type(value).__name__}, not a tensor", where=where)
    tensor = _cast(value, spec, where)
    if not _fits(tensor, spec):
        raise CalibrationError(
            f"input {spec.name} has shape {list(tensor.shape)}, expected [{', '.join(map(str, spec.shape))}]",
            where=where,
            fix="the first axis counts samples: x[None] adds it"
            if tensor.dim() == len(spec.shape) - 1
            else None,
        )
    if tensor.numel() == 0:
        raise CalibrationError(f"input {spec.name} is empty: shape {list(tensor.shape)}", where=where)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CalibrationError(
            f"input {spec.name} holds NaN or infinity",
            where=_first_bad(tensor, where),
            why="a range found from such data would be NaN or infinite",
            fix="remove the sample or repair the preprocessing",
        )
    return tensor


def _cast(value: Tensor | np.ndarray[Any, Any], spec: InputSpec, where: str) -> Tensor:
    """The value in the input's dtype; only a change of width within floats or within integers is made."""
    got = str(value.dtype).removeprefix("torch.")
    wanted = getattr(torch, spec.dtype)
    if got == spec.dtype:
        return value.detach().cpu() if isinstance(value, Tensor) else _from_numpy(value)
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fiub":
        raise CalibrationError(f"input {spec.name} has dtype {got}, expected {spec.dtype}", where=where)
    tensor = value.detach().cpu() if isinstance(value, Tensor) else _from_numpy(value)
    alike = tensor.is_floating_point() == wanted.is_floating_point and tensor.dtype is not torch.bool
    if not alike or wanted is torch.bool:
        raise CalibrationError(
            f"input {spec.name} has dtype {got}, expected {spec.dtype}",
            where=where,
            why="how raw values become the model's inputs (scaling, mean, deviation) is not guessed",
            fix=f"save the data preprocessed, as {spec.dtype}",
        )
    return tensor.to(wanted)


def _from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(array, order="C"))


def _fits(tensor: Tensor, spec: InputSpec) -> bool:
    return tensor.dim() == len(spec.shape) and all(
        isinstance(want, str) or size == want for size, want in zip(tensor.shape, spec.shape)
    )


def _first_bad(tensor: Tensor, where: str) -> str:
    bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
    return f"{where}, at {bad}" if bad else where


def _names(inputs: Sequence[InputSpec]) -> str:
    return ", ".join(map(str, inputs))
