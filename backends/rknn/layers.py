"""What the toolkit's compiler says of every layer: the "Network Layer Information Table" in its log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fxc.compiler.backend import Kernel

_TITLE = "Network Layer Information Table"
_TYPES = "INT4|INT8|INT16|UINT8|FLOAT16|FLOAT|BOOL|INT32|INT64"
_ROW = re.compile(rf"\] +\d+ +(?P<op>\w+) +(?P<dtype>{_TYPES}) +(?P<device>NPU|CPU|GPU) .* \w+:(?P<name>\S+)")
_PART = re.compile(r"(#\d+|_group_\d+|_tile\d+(_conv)?(_add)?|_(Conv|Add)(Add|Relu)+)+$")
"""What the toolkit appends to a node's name: a number, its group, its tile, and with what it was fused."""
_GROUP = re.compile(r"_group_\d+")
_MANY = 4
"""Fewer parts are not worth a line."""
_MULTIPLIES = ("Conv", "Gemm", "MatMul", "exMatMul")
_INTEGERS = ("INT8", "INT16")
_BORDERS = ("InputOperator", "OutputOperator")


@dataclass(frozen=True)
class Layer:
    """One layer of the compiled network.

    Attributes:
        op: the toolkit's operator type (``"ConvRelu"``).
        dtype: what it computes in (``"INT8"``).
        device: ``"NPU"``, or ``"CPU"`` where the NPU cannot.
        name: of the ONNX node that it came from.
    """

    op: str
    dtype: str
    device: str
    name: str


def layers(log: Path) -> list[Layer]:
    """The rows of the last table in ``log``, without inputs and outputs; none if it has no table."""
    if not log.is_file():
        return []
    _, found, table = log.read_text(encoding="utf-8", errors="replace").rpartition(_TITLE)
    rows = (_ROW.search(line) for line in table.splitlines()) if found else ()
    return [Layer(**row.groupdict()) for row in rows if row and row["op"] not in _BORDERS]


def kernels(found: list[Layer]) -> list[Kernel]:
    """Those that multiply, one for each layer of the model: integer if all that the toolkit made of it is."""
    parts: dict[str, list[Layer]] = {}
    for row in found:
        if row.op.startswith(_MULTIPLIES):
            parts.setdefault(_label(row), []).append(row)
    return [_kernel(label, rows) for label, rows in parts.items()]


def _kernel(label: str, rows: list[Layer]) -> Kernel:
    slowest = next((row for row in rows if row.dtype not in _INTEGERS), rows[0])
    where = f"{slowest.dtype.lower()} on the {slowest.device}"
    return Kernel(label, slowest.op, where, slowest.dtype in _INTEGERS)


def remarks(found: list[Layer], ignored: Sequence[str]) -> tuple[str, ...]:
    """For the report: what the board's CPU computes, what was split, and what the toolkit did not take of what it was told.

    Args:
        ignored: tensors that were given a range and that the toolkit does not know, because it fused them away.
    """
    slow = [
        f"{_label(row)}: {row.op} runs on the board's CPU, the NPU has no such operator"
        for row in found
        if row.device == "CPU" and row.op != "Reshape"
    ]
    groups = Counter(_label(row) for row in found if _GROUP.search(row.name))
    slow += [
        f"{label}: the toolkit splits this grouped convolution into {count}"
        for label, count in groups.items()
        if count >= _MANY
    ]
    if ignored:
        slow.append(f"the toolkit ignored the ranges of {len(ignored)} tensors: {', '.join(ignored)}")
    return tuple(slow)


def _label(row: Layer) -> str:
    return _PART.sub("", row.name.split("/")[0])
