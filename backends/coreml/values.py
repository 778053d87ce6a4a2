"""Types and constants of a MIL program: protobuf messages to names, shapes and torch tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fxc.backends.coreml.blob import SUB_BYTE, BlobFile, unpacked
from fxc.compiler.errors import ArtifactError

DTYPES: Mapping[int, str] = MappingProxyType(
    {
        1: "bool",
        2: "string",
        10: "float16",
        11: "float32",
        12: "float64",
        21: "int8",
        22: "int16",
        23: "int32",
        24: "int64",
        25: "int4",
        31: "uint8",
        32: "uint16",
        33: "uint32",
        34: "uint64",
        35: "uint4",
        36: "uint2",
        37: "uint1",
        38: "uint6",
        39: "uint3",
    }
)
"""Data types of the specification by number."""

HELD: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "bool": torch.bool,
        "float16": torch.float32,
        "float32": torch.float32,
        "float64": torch.float32,
        "int8": torch.int8,
        "int16": torch.int16,
        "int32": torch.int32,
        "int64": torch.int64,
        "int4": torch.int8,
        "uint8": torch.uint8,
        "uint16": torch.int32,
        "uint32": torch.int64,
        "uint64": torch.int64,
        **dict.fromkeys(("uint1", "uint2", "uint3", "uint4", "uint6"), torch.uint8),
    }
)
"""What a value of each type is held as: floats as float32, which holds every float16; integers in a type wide enough."""

FLOATS = ("float16", "float32", "float64")


class Type(NamedTuple):
    """Type of a value: ``dtype`` by name, ``shape`` with ``None`` where it is only known at run time.

    What is no tensor (a list, a dictionary, a state) has its own kind as ``dtype`` and no shape.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        return (
            self.dtype
            if self.shape is None
            else f"{self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"
        )


def type_of(message: Any) -> Type:
    """The type that a ``ValueType`` message says."""
    kind = message.WhichOneof("type")
    if kind != "tensorType":
        return Type(str(kind).removesuffix("Type"), None)
    tensor = message.tensorType
    sizes = [d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions]
    return Type(DTYPES.get(tensor.dataType, f"type {tensor.dataType}"), tuple(sizes))


@dataclass
class Constants:
    """Reads the constants of one model; weight files are opened once."""

    folder: Path
    files: dict[str, BlobFile] = field(default_factory=dict)

    def value(self, message: Any) -> Any:
        """The value of a ``Value`` message: a tensor, a string, a list of either, or a dictionary.

        Raises:
            ArtifactError: its data do not fit its type, or its weight file is missing or damaged.
        """
        if message.WhichOneof("value") == "blobFileValue":
            return self._stored(message)
        immediate = message.immediateValue
        kind = immediate.WhichOneof("value")
        if kind == "tensor":
            return _immediate(immediate.tensor, type_of(message.type))
        if kind in ("list", "tuple"):
            return [self.value(v) for v in getattr(immediate, kind).values]
        if kind == "dictionary":
            return {self.value(v.key): self.value(v.value) for v in immediate.dictionary.values}
        raise ArtifactError(
            "the model is damaged", why=f"a constant of type {type_of(message.type)} has no value"
        )

    def _stored(self, message: Any) -> Tensor:
        found = type_of(message.type)
        if found.shape is None or None in found.shape or found.dtype not in HELD:
            raise ArtifactError("the model is damaged", why=f"a stored constant cannot be of type {found}")
        shape = [int(d) for d in found.shape if d is not None]
        blob = self._file(message.blobFileValue.fileName)
        array = blob.read(message.blobFileValue.offset, found.dtype, int(np.prod(shape, dtype=np.int64)))
        return _held(array, found.dtype).reshape(shape)

    def _file(self, name: str) -> BlobFile:
        if name not in self.files:
            inside = name.removeprefix("@model_path/")
            place = self.folder / inside
            if inside == name or self.folder.resolve() not in place.resolve().parents:
                raise ArtifactError(
                    "the model is damaged", why=f"its weights are to lie outside of it, in {name!r}"
                )
            self.files[name] = BlobFile(place)
        return self.files[name]


def _immediate(message: Any, found: Type) -> Any:
    kind = message.WhichOneof("value")
    shape = [-1 if d is None else d for d in found.shape or ()]
    if found.dtype == "string":
        return message.strings.values[0] if not shape else list(message.strings.values)
    if found.dtype not in HELD:
        raise ArtifactError("the model is damaged", why=f"a constant has the unknown {found}")
    count = int(np.prod(shape, dtype=np.int64))
    array = (
        _from_bytes(message.bytes.values, found.dtype, count) if kind == "bytes" else _listed(message, kind)
    )
    if array.size == 1 and count > 1:
        array = np.broadcast_to(array, (count,))
    if array.size != count:
        raise ArtifactError(
            "the model is damaged", why=f"a constant of type {found} has {array.size} numbers"
        )
    return _held(array, found.dtype).reshape(shape)


def _listed(message: Any, kind: str | None) -> np.ndarray[Any, Any]:
    kinds = {
        "floats": np.float32,
        "doubles": np.float64,
        "ints": np.int32,
        "longInts": np.int64,
        "bools": np.bool_,
    }
    return np.array(getattr(message, kind).values, kinds[kind]) if kind in kinds else np.zeros(0, np.float32)


def _from_bytes(data: bytes, dtype: str, count: int) -> np.ndarray[Any, Any]:
    raw = np.frombuffer(data, np.uint8)
    if dtype in SUB_BYTE:
        return unpacked(raw, SUB_BYTE[dtype], count, signed=dtype.startswith("int"))
    return raw.view(np.dtype(dtype)) if len(raw) == count * np.dtype(dtype).itemsize else raw[:0]


def _held(array: np.ndarray[Any, Any], dtype: str) -> Tensor:
    wanted = HELD[dtype]
    if wanted is torch.float32:
        # A copy: the file is mapped read-only, and a model may be deleted while it is loaded.
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(np.array(array, dtype=str(wanted).removeprefix("torch.")))
