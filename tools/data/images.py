"""Image files: which ones, in which order, and what happens to those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from fxc.compiler.errors import CalibrationError
from fxc.tools.data.spec import IMAGE_SUFFIXES

UNREADABLE_SHARE = 0.1
"""More than this share of unreadable images says that something is wrong with the folder itself."""

T = TypeVar("T")


def image_files(folder: Path) -> list[Path]:
    """Every image file below ``folder``, sorted by path; hidden files and other kinds are left out.

    Raises:
        CalibrationError: there is none.
    """
    found = (
        p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    files = sorted((p for p in found if p.is_file()), key=lambda p: p.relative_to(folder).as_posix())
    if not files:
        raise CalibrationError(
            f"{folder} holds no images", why=f"files ending in {', '.join(IMAGE_SUFFIXES)} count"
        )
    return files


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` items, evenly spaced so that a sorted list of class folders is sampled from end to end."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def read_image(path: Path) -> Image.Image:
    """The decoded image; the file is closed again.

    Raises:
        OSError: missing, truncated or not an image, in Pillow's words.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def readable(files: Sequence[Path], warn: Callable[[str], None]) -> list[Path]:
    """The files that decode to their end; each of the others is named in a warning.

    JPEGs are decoded at an eighth of their size, which still reads every byte.

    Raises:
        CalibrationError: more than a tenth cannot be read, or none can.
    """
    broken = {path: why for path in files if (why := _trouble(path))}
    if len(broken) > UNREADABLE_SHARE * len(files) or len(broken) == len(files):
        first, why = next(iter(broken.items()))
        raise CalibrationError(
            f"{len(broken)} of {len(files)} images cannot be read",
            where=f"{first}: {why}" + (f", and {len(broken) - 1} more" if len(broken) > 1 else ""),
            why=f"up to {UNREADABLE_SHARE:.0%} are skipped with a warning",
            fix="remove or replace the broken files",
        )
    for path, why in broken.items():
        warn(f"skipped {path}: {why}")
    return [path for path in files if path not in broken]


def _trouble(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.draft(image.mode, (image.width // 8, image.height // 8))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"
    return None
