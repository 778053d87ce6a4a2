"""What a command hands back, and how it reaches the terminal: text for people or one JSON document for programs."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from fxc.compiler.errors import ArtifactError, FxcError


@dataclass(frozen=True)
class Result:
    """The outcome of a command.

    Attributes:
        document: for ``--json``; plain data.
        text: for people, without a final newline.
        code: exit code.
    """

    document: Mapping[str, Any]
    text: str
    code: int = 0


def write(result: Result, stream: TextIO, *, as_json: bool) -> None:
    """Print a result; a reader that has gone away is no error.

    Raises:
        ArtifactError: what stdout leads to is full, or broken.
    """
    text = json.dumps(plain(result.document), indent=2, ensure_ascii=False) if as_json else result.text
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        # What is left in the buffer must not fail once more at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise ArtifactError("cannot write the result", why=error.strerror) from error


def write_error(error: FxcError) -> None:
    """Print an error's parts to stderr, coloured on a terminal."""
    first, *rest = str(error).splitlines()
    print(paint("error: ", "1;31") + paint(first, "1"), file=sys.stderr)
    for line in rest:
        print(line, file=sys.stderr)


def warn(text: str) -> None:
    """One warning line on stderr."""
    print(paint("warning: ", "1;33") + text, file=sys.stderr)


def paint(text: str, code: str) -> str:
    """``text`` in an ANSI colour where stderr is a terminal and ``NO_COLOR`` is not set."""
    coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[{code}m{text}\x1b[0m" if coloured else text


def columns(rows: Sequence[Sequence[object]], header: Sequence[str] = (), indent: str = "") -> str:
    """Rows as aligned columns; numbers stay left, so that the text is easy to cut."""
    cells = [[str(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))] if cells else []
    lines = [indent + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]
    if header:
        lines.insert(1, indent + "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Indented ``word  value`` lines; a pair whose value is empty is left out."""
    kept = [(name, value) for name, value in pairs if value not in (None, "")]
    return columns(kept, indent="  ")


def shape(dims: Sequence[object]) -> str:
    """``[batch, 3, 224, 224]``."""
    return f"[{', '.join(map(str, dims))}]"


def size(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def plain(value: Any) -> Any:
    """``value`` as strict JSON data: numbers that JSON lacks become ``null``, paths and the like become text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return value.item() if hasattr(value, "item") else str(value)
