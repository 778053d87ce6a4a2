"""Tensors in ``.npy``, ``.npz`` and ``.pt`` files, read without running code from them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from fxc.compiler.errors import CalibrationError
from fxc.compiler.program import InputSpec
from fxc.compiler.tensorfile import load_tensor_file
from fxc.tools.data.spec import DataSpec

Column = np.ndarray[Any, Any] | Tensor


def columns(spec: DataSpec, inputs: Sequence[InputSpec]) -> tuple[Column, ...]:
    """One array ``[samples, ...]`` per input. An ``.npy`` file stays on disk and is mapped.

    In an ``.npz`` or a dict in a ``.pt``, arrays are found by input name; a single input also takes ``x`` or the only
    array.

    Raises:
        CalibrationError: the file cannot be read, holds something else, or lacks an input.
    """
    content = read_arrays(spec)
    if isinstance(content, Mapping):
        return _by_name(content, inputs, str(spec))
    if len(inputs) != 1:
        raise CalibrationError(
            f"{spec} holds one tensor, the model takes {len(inputs)}",
            why="; ".join(map(str, inputs)),
            fix="give an .npz, or a dict in a .pt, with one array per input name",
        )
    return (content,)


def read_arrays(spec: DataSpec) -> Any:
    """What the file holds: an array or a mapping of arrays.

    Raises:
        CalibrationError: the file is broken, or holds Python objects.
    """
    try:
        if spec.kind == "pt":
            return load_tensor_file(spec.path, error=CalibrationError)
        content = np.load(spec.path, allow_pickle=False, mmap_mode="r" if spec.kind == "npy" else None)
        return dict(content) if spec.kind == "npz" else content
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CalibrationError(
            f"{spec} cannot be read",
            why=f"{error}",
            fix="write it with numpy.save or numpy.savez, numbers only",
        ) from error


def samples(data: Sequence[Column], name: str) -> int:
    """The common length of the first axes.

    Raises:
        CalibrationError: they differ, or an array has no axis, or there are no samples.
    """
    lengths = [column.shape[0] if column.ndim else None for column in data]
    if None in lengths or len(set(lengths)) != 1:
        shapes = ", ".join(str(list(column.shape)) for column in data)
        raise CalibrationError(
            f"{name}: the arrays do not hold the same number of samples", why=f"shapes {shapes}"
        )
    if not lengths[0]:
        raise CalibrationError(f"{name} is empty", why=f"shape {list(data[0].shape)}")
    return int(lengths[0])


def _by_name(content: Mapping[str, Any], inputs: Sequence[InputSpec], name: str) -> tuple[Column, ...]:
    found = [content[spec.name] for spec in inputs if spec.name in content]
    if len(found) < len(inputs) and len(inputs) == 1:
        alone = content.get("x", next(iter(content.values())) if len(content) == 1 else None)
        found = [] if alone is None else [alone]
    if len(found) != len(inputs):
        raise CalibrationError(
            f"{name} lacks an array for some input",
            why=f"it has {', '.join(content) or 'nothing'}; the model takes {', '.join(map(str, inputs))}",
            fix="name each array after its input",
        )
    if not all(isinstance(value, (np.ndarray, Tensor)) for value in found):
        raise CalibrationError(f"{name} holds something that is not a tensor under an input's name")
    return tuple(found)
