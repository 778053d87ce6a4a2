"""What a data argument names, found out without torch so that a typing mistake is refused at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fxc.compiler.errors import CalibrationError

Kind = Literal["images", "npy", "npz", "pt", "python", "statistics"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
_FILES: dict[str, Kind] = {".npy": "npy", ".npz": "npz", ".pt": "pt", ".pth": "pt"}
_KNOWN = "a folder of images, a .npy, .npz or .pt file, or file.py:iterable"


@dataclass(frozen=True)
class DataSpec:
    """A data argument, taken apart.

    Attributes:
        kind: what stands there.
        path: the folder or file.
        attribute: the name in a Python file, empty otherwise.
    """

    kind: Kind
    path: Path
    attribute: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.attribute}" if self.attribute else str(self.path)


def parse_spec(text: str) -> DataSpec:
    """Take a data argument apart and check that the file or folder is there.

    Raises:
        CalibrationError: nothing there, or a kind of file that is not read.
    """
    file, colon, attribute = text.rpartition(":")
    if colon and file.endswith(".py"):
        return DataSpec("python", _existing(Path(file), text), _named(attribute, text))
    path = _existing(Path(text), text)
    if path.is_dir():
        return DataSpec("statistics" if (path / "statistics.json").is_file() else "images", path)
    if path.suffix == ".py":
        raise CalibrationError(
            f"{text} does not say which name in the file holds the data", fix=f"write {text}:NAME"
        )
    if path.suffix not in _FILES:
        raise CalibrationError(f"{text} is not a kind of data that fxc reads", fix=f"give {_KNOWN}")
    return DataSpec(_FILES[path.suffix], path)


def _existing(path: Path, text: str) -> Path:
    if not path.exists():
        raise CalibrationError(f"there is no {path}", where=f"data argument {text!r}", fix=f"give {_KNOWN}")
    return path


def _named(attribute: str, text: str) -> str:
    if not attribute.isidentifier():
        raise CalibrationError(f"{text!r} names no attribute after the colon", fix="write file.py:NAME")
    return attribute
