"""``file.py:name``: an object from a Python file of the user's own."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from fxc.compiler.errors import UsageError


def load_attribute(path: Path, name: str) -> Any:
    """Run ``path`` as a module, as ``python path`` would, and return its attribute ``name``.

    The file's own folder is importable while it runs; the module stays in ``sys.modules`` under a private name, so
    classes defined in it keep working.

    Raises:
        UsageError: the file fails (its own line is named) or has no such name.
    """
    module = _run(path)
    if not hasattr(module, name):
        names = ", ".join(sorted(n for n in vars(module) if not n.startswith("_"))) or "nothing"
        raise UsageError(f"{path} has no {name!r}", why=f"it defines {names}")
    return getattr(module, name)


def call_user(path: Path, name: str, function: Any) -> Any:
    """``function()`` of the user's file, its failure told with the file's own line.

    Raises:
        UsageError: the function raised.
    """
    try:
        return function()
    except Exception as error:
        raise UsageError(f"{path}:{name} failed", where=_own_line(error, path), why=_said(error)) from error


def _run(path: Path) -> ModuleType:
    module_name = f"_fxc_user_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"{path} cannot be imported", where=_own_line(error, path), why=_said(error)
        ) from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _own_line(error: Exception, path: Path) -> str:
    """The last frame of the traceback inside ``path``; the line of a syntax error."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    own = str(path.resolve())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(Path(f.filename).resolve()) == own]
    return f"{path}, line {frames[-1].lineno}: {frames[-1].line}" if frames else str(path)
