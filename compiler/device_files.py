"""The folder that a runner on a device writes: one ``.npy`` per output, or one per output and sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fxc.compiler.errors import ArtifactError
from fxc.compiler.tensorfile import load_tensor_file

_SUFFIX = ".npy"
_SHOWN = 5


def read_outputs(folder: Path, names: Sequence[str], expected: Sequence[Tensor]) -> list[Tensor]:
    """The device's answers, in the order of ``names`` and in the types of ``expected``.

    Args:
        folder: with ``NAME.npy`` for each name, or ``NAME.0.npy``, ``NAME.1.npy``, … that are joined along the first axis.
        names: of the flat outputs.
        expected: the recorded outputs: shapes must be theirs, and floats must be where floats are.

    Raises:
        ArtifactError: naming the folder or file: missing, damaged, a pickle, of another shape or kind, not finite.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} is no folder of device outputs",
            why="it is a file" if folder.exists() else "there is nothing there",
            fix=f"the folder that the runner on the device wrote, with {_wanted(names)}",
        )
    return [_read(folder, name, names, want) for name, want in zip(names, expected, strict=True)]


def _read(folder: Path, name: str, names: Sequence[str], want: Tensor) -> Tensor:
    whole = folder / f"{name}{_SUFFIX}"
    pieces = _pieces(folder, name, names) if want.dim() else []
    if whole.exists() and pieces:
        raise _twice(folder, name, whole, pieces[0])
    if not whole.exists() and not pieces:
        raise _missing(folder, names, whole)
    files = pieces or [whole]
    values = [_checked(file, want) for file in files]
    value = torch.cat(values) if pieces else values[0]
    if value.shape != want.shape:
        place = f"{files[0].name} to {files[-1].name}" if pieces else files[0].name
        raise _other_shape(folder, place, value.shape, want.shape)
    return value


def _pieces(folder: Path, name: str, names: Sequence[str]) -> list[Path]:
    """The files of single samples, in order; a number missing between them is an error."""
    others = {f"{other}{_SUFFIX}" for other in names}
    found: dict[int, Path] = {}
    for file in folder.glob(f"*{_SUFFIX}"):
        number = file.name[len(name) + 1 : -len(_SUFFIX)]
        if file.name.startswith(f"{name}.") and number.isdecimal() and file.name not in others:
            if int(number) in found:
                raise _twice(folder, name, file, found[int(number)])
            found[int(number)] = file
    for place, at in enumerate(sorted(found)):
        if place != at:
            raise ArtifactError(
                f"there is no {name}.{place}{_SUFFIX}", where=str(folder), why="a sample is missing"
            )
    return [found[at] for at in sorted(found)]


def _checked(file: Path, want: Tensor) -> Tensor:
    value = load_tensor_file(file, error=ArtifactError)
    if not isinstance(value, Tensor):
        raise ArtifactError(f"{file.name} holds several arrays", where=str(file), fix="one array: numpy.save")
    if _kind(value) != _kind(want):
        raise ArtifactError(
            f"{file.name} holds {_dtype(value)}, the output is {_dtype(want)}",
            where=str(file),
            fix="write what the engine gave, as it is; only the width of a type may differ",
        )
    if value.dim() != want.dim() or value.shape[1:] != want.shape[1:]:
        raise _other_shape(file.parent, file.name, value.shape, want.shape)
    value = value.to(want.dtype)
    if value.is_floating_point() and not value.isfinite().all() and want.isfinite().all():
        count = int((~value.isfinite()).sum())
        raise ArtifactError(
            f"{file.name} holds {count} values that are not finite",
            where=str(file),
            why="on this host the model file's answers to the same inputs are finite",
            fix="overflow in float16 is the usual cause: keep the layers that overflow in float32 on the device",
        )
    return value


def _kind(value: Tensor) -> str:
    if value.is_floating_point():
        return "float"
    return "bool" if value.dtype is torch.bool else "complex" if value.is_complex() else "integer"


def _twice(folder: Path, name: str, one: Path, other: Path) -> ArtifactError:
    return ArtifactError(
        f"both {one.name} and {other.name} hold output {name}",
        where=str(folder),
        fix="empty the folder before the runner writes into it",
    )


def _missing(folder: Path, names: Sequence[str], whole: Path) -> ArtifactError:
    there = sorted(file.name for file in folder.glob(f"*{_SUFFIX}"))
    shown = (
        f"{', '.join(there[:_SHOWN])}{' …' if len(there) > _SHOWN else ''}" if there else f"no {_SUFFIX} file"
    )
    return ArtifactError(
        f"there is no {whole.name}",
        where=str(folder),
        why=f"the bundle's outputs are {', '.join(names)}; the folder holds {shown}",
        fix=f"the folder that the runner on the device wrote, with {_wanted(names)}",
    )


def _wanted(names: Sequence[str]) -> str:
    files = [f"{name}{_SUFFIX}" for name in names[:_SHOWN]]
    return ", ".join(files) + (" …" if len(names) > _SHOWN else "")


def _other_shape(folder: Path, file: str, found: torch.Size, want: torch.Size) -> ArtifactError:
    return ArtifactError(
        f"{file} has shape {list(found)}, the recorded output has {list(want)}",
        where=str(folder),
        why="the device must answer the inputs in golden/, all of them in their order",
    )


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
