"""What a model argument and an input shape say, found out without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fxc.compiler.errors import UsageError

KNOWN = "torchvision:NAME, file.py:factory, file.pt2, or a folder that 'fxc prune' wrote"
_SHAPE = re.compile(r"(?:(?P<name>\w+)=)?(?P<dims>\d+(?:[,x]\d+)*)(?::(?P<dtype>\w+))?")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class ModelSpec:
    """A model argument, taken apart.

    Attributes:
        kind: where the model comes from.
        name: what the model is called in reports and file names.
        path: the user's file, ``None`` for torchvision.
        attribute: the name in a Python file.
    """

    kind: Literal["torchvision", "python", "pt2", "program"]
    name: str
    path: Path | None = None
    attribute: str = ""


@dataclass(frozen=True)
class ShapeSpec:
    """One ``--input-shape``: the input's name if said, its dimensions with the batch first, its dtype by name."""

    name: str | None
    dims: tuple[int, ...]
    dtype: str = "float32"


def parse_model(text: str) -> ModelSpec:
    """Take a model argument apart and check that its file is there.

    Raises:
        UsageError: no such form, or no such file.
    """
    head, colon, tail = text.rpartition(":")
    if head == "torchvision" and tail:
        return ModelSpec("torchvision", tail)
    if colon and head.endswith(".py"):
        if not tail.isidentifier():
            raise UsageError(f"{text!r} names nothing after the colon", fix="write file.py:factory")
        return ModelSpec("python", tail, _existing(Path(head)), tail)
    if text.endswith(".pt2"):
        return ModelSpec("pt2", Path(text).stem, _existing(Path(text)))
    if text.endswith(".py"):
        raise UsageError(f"{text} does not say which name in the file is the model", fix=f"write {text}:NAME")
    if (Path(text) / "program.json").is_file():
        return ModelSpec("program", Path(text).name, Path(text))
    raise UsageError(f"{text!r} is not a model that fxc can load", fix=f"give {KNOWN}")


def parse_shape(text: str) -> ShapeSpec:
    """Take one ``--input-shape`` apart.

    Raises:
        UsageError: another form, a zero dimension or an unknown dtype.
    """
    match = _SHAPE.fullmatch(text.replace(" ", ""))
    if match is None:
        raise UsageError(f"--input-shape {text!r} cannot be read", fix="--input-shape 1,3,224,224")
    dims = tuple(int(d) for d in re.split("[,x]", match["dims"]))
    dtype = match["dtype"] or "float32"
    if 0 in dims or dtype not in _DTYPES:
        why = "dimensions are positive" if 0 in dims else f"dtypes are {', '.join(_DTYPES)}"
        raise UsageError(f"--input-shape {text!r} makes no input", why=why)
    return ShapeSpec(match["name"], dims, dtype)


def parse_shapes(texts: list[str] | None, batch: int | None = None) -> tuple[ShapeSpec, ...]:
    """All ``--input-shape`` words, their first dimension set to ``batch`` where one is given.

    Raises:
        UsageError: see :func:`parse_shape`; or some inputs named and others not.
    """
    shapes = tuple(parse_shape(text) for text in texts or ())
    if len({s.name is None for s in shapes}) > 1:
        raise UsageError("--input-shape names some inputs and not others", fix="name all of them or none")
    if batch is not None:
        shapes = tuple(ShapeSpec(s.name, (batch, *s.dims[1:]), s.dtype) for s in shapes)
    return shapes


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"there is no file {path}", fix=f"give {KNOWN}")
    return path
