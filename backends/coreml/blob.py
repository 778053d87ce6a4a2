"""The weight file of an mlpackage, ``weights/weight.bin``: blobs behind one header each, read without copying.

Layout (MIL blob storage version 2, as coremltools' writer makes it): a 64-byte file header with the number of blobs and the
version; a 64-byte record per blob, at the offset that the program names: sentinel, type, size in bytes, offset of the data,
and the number of unused bits at its end; data aligned to 64 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from fxc.compiler.errors import ArtifactError

_HEADER = struct.Struct("<II")
_RECORD = struct.Struct("<IIQQQ")
_SENTINEL, _VERSION = 0xDEADBEEF, 2

TYPES: Mapping[int, str] = MappingProxyType(
    {
        1: "float16",
        2: "float32",
        3: "uint8",
        4: "int8",
        5: "bfloat16",
        6: "int16",
        7: "uint16",
        8: "int4",
        9: "uint1",
        10: "uint2",
        11: "uint4",
        12: "uint3",
        13: "uint6",
        14: "int32",
        15: "uint32",
    }
)
"""The type codes of blobs."""

SUB_BYTE: Mapping[str, int] = MappingProxyType(
    {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "int4": 4, "uint6": 6}
)
"""Types narrower than a byte, to their bits. They are packed from the lowest bit of a byte up."""

Array = np.ndarray[Any, Any]


class BlobFile:
    """A weight file, mapped into memory.

    Raises:
        ArtifactError: it is missing, or is no weight file of version 2.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise ArtifactError(
                f"the model's weight file {path} is missing",
                why="the program keeps its weights there",
                fix="copy the whole .mlpackage folder",
            )
        size = path.stat().st_size
        self._bytes: Array = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
        if size < 64 or _HEADER.unpack(bytes(self._bytes[:8]))[1] != _VERSION:
            raise self._broken("it does not begin with the header of a weight file of version 2")

    def read(self, offset: int, dtype: str, count: int) -> Array:
        """``count`` numbers of the type named ``dtype`` from the blob whose record is at ``offset``; one byte each if narrower.

        Raises:
            ArtifactError: there is no such blob, or it has another type or size.
        """
        found, data, padding = self._blob(offset)
        if found != dtype:
            raise self._broken(f"the blob at {offset} holds {found}, the program says {dtype}")
        if dtype in SUB_BYTE:
            return self._narrow(data, dtype, count, offset, padding)
        values = data.view(np.dtype(dtype)) if len(data) % np.dtype(dtype).itemsize == 0 else data[:0]
        if len(values) != count:
            raise self._broken(
                f"the blob at {offset} has {len(data)} bytes, the program says {count} x {dtype}"
            )
        return values

    def _blob(self, offset: int) -> tuple[str, Array, int]:
        if offset < 0 or offset % 64 or offset + 64 > len(self._bytes):
            raise self._broken(f"no blob can begin at {offset}")
        sentinel, kind, size, start, padding = _RECORD.unpack(
            bytes(self._bytes[offset : offset + _RECORD.size])
        )
        if sentinel != _SENTINEL or kind not in TYPES:
            raise self._broken(f"there is no blob at {offset}")
        if start + size > len(self._bytes):
            raise self._broken(f"the blob at {offset} ends behind the end of the file: the file was cut")
        return TYPES[kind], self._bytes[start : start + size], padding

    def _narrow(self, data: Array, dtype: str, count: int, offset: int, padding: int) -> Array:
        bits = SUB_BYTE[dtype]
        if 8 * len(data) - padding != bits * count:
            raise self._broken(
                f"the blob at {offset} has {8 * len(data) - padding} bits, not {count} x {dtype}"
            )
        return unpacked(data, bits, count, signed=dtype.startswith("int"))

    def _broken(self, why: str) -> ArtifactError:
        return ArtifactError(f"{self.path} is damaged", why=why, fix="make or copy the model again")


def unpacked(data: Array, bits: int, count: int, *, signed: bool = False) -> Array:
    """``count`` integers of ``bits`` bits out of bytes that hold them from the lowest bit up; one byte each."""
    flat = np.unpackbits(np.ascontiguousarray(data), bitorder="little")[: bits * count].reshape(count, bits)
    values = (flat << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    if not signed:
        return values
    return np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)
