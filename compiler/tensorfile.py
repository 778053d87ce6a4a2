"""Tensors from files that a user points at: ``.pt``, ``.npy``, ``.npz``. Nothing in such a file can run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.compiler.errors import FxcError, InputError

SUFFIXES = (".pt", ".pth", ".npy", ".npz")


def load_tensor_file(path: Path | str, *, error: type[FxcError] = InputError) -> Tensor | dict[str, Tensor]:
    """The tensor in a ``.pt`` or ``.npy``, or the named tensors of a ``.npz`` or of a ``.pt`` that holds a dict.

    A ``.pt`` is read with ``weights_only=True`` and numpy files with ``allow_pickle=False``, so a file that is a
    pickle of code is refused and its code does not run. Shapes and dtypes are the file's own.

    Args:
        path: the file.
        error: what to raise: :class:`CalibrationError` where the file is calibration data.

    Raises:
        FxcError: of the class ``error``, naming the file: missing, damaged, of another kind, or holding objects.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise error(f"{path.name} is no tensor file", where=str(path), fix=f"one of {', '.join(SUFFIXES)}")
    value = _read(path, error)
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, dict) and value and all(isinstance(v, Tensor) for v in value.values()):
        return {str(name): tensor.detach() for name, tensor in value.items()}
    raise error(
        f"{path.name} holds a {type(value).__name__}, not a tensor or a dict of tensors",
        where=str(path),
        fix="save the tensor itself: torch.save(tensor, path) or numpy.save(path, array)",
    )


def _read(path: Path, error: type[FxcError]) -> Any:
    try:
        if path.suffix in (".pt", ".pth"):
            return torch.load(path, weights_only=True, map_location="cpu")
        return _read_numpy(path)
    except OSError as caught:
        raise error(f"cannot read {path.name}: {caught}", where=str(path)) from caught
    # Readers of damaged or hostile files fail with whatever their parsing meets first; PyTorch's own message would
    # tell the user to load the file unsafely.
    except Exception as caught:
        raise error(
            f"{path.name} is damaged, or holds more than tensors",
            where=str(path),
            why="a file of Python objects can run code when it is read, so only tensors are read",
            fix="save the tensor itself: torch.save(tensor, path) or numpy.save(path, array)",
        ) from caught


def _read_numpy(path: Path) -> Any:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _tensor(loaded)
    with loaded:
        _check_sizes(path)
        return {name: _tensor(loaded[name]) for name in loaded.files}


def _check_sizes(path: Path) -> None:
    """Refuse an archive that unpacks to 1000 times its size: images compress a hundredfold at the very most."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > 1000 * max(path.stat().st_size, 1 << 16):
        raise ValueError("the archive unpacks to more than any image data would")


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    # torch has no view of a big-endian or a read-only array.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
