"""coremltools, imported when it is needed and without its remarks about what only exists on a Mac."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fxc.compiler.errors import ToolchainError

PACKAGE = "coremltools"


@contextmanager
def quiet() -> Iterator[None]:
    """coremltools says that it lacks its Mac libraries, warns of newer torch versions and draws progress bars."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def coremltools(module: str = "") -> Any:
    """The package, or one of its modules (``"proto.Model_pb2"``).

    Raises:
        ToolchainError: it is not installed.
    """
    try:
        with quiet():
            return importlib.import_module(f"{PACKAGE}.{module}" if module else PACKAGE)
    except ImportError as error:
        raise ToolchainError(
            "Core ML models are read and written by coremltools, which is not installed",
            why=str(error),
            fix="pip install 'fxc[coreml]'",
        ) from error


def installed() -> bool:
    """Whether coremltools is there; does not import it."""
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return False
    return True
