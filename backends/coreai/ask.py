"""Core AI at work, in a process of its own with a time limit: its crash or its endless loop is an error here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxc.compiler import errors
from fxc.compiler.errors import ArtifactError, FxcError, ToolchainError
from fxc.compiler.files import read_json, write_json
from fxc.compiler.toolchain import guard
from fxc.compiler.toolchain.limit import SECONDS, seconds
from fxc.compiler.toolchain.process import Outcome, supervise
from fxc.compiler.toolchain.worker import ANSWER, REQUEST, last_words

_SCRIPT = Path(__file__).with_name("worker.py")
_LOG = "coreai.log"


def ask(action: str, folder: Path, request: Mapping[str, Any], *, about: str) -> dict[str, Any]:
    """What ``worker.py`` answers.

    Args:
        folder: where the exchange happens, a temporary one; files that the request names lie in it.
        about: what the request is about, for messages.

    Raises:
        ToolchainError: it refused, crashed, or did not end in time.
        FxcError: what fxc's own code raised there.
    """
    write_json(folder / REQUEST, {"action": action, **request})
    try:
        outcome = supervise(
            _command(), folder=folder, log=folder / _LOG, seconds=seconds(), variables=_variables(folder)
        )
    except OSError as error:
        raise ToolchainError(f"Core AI cannot be run: {error.strerror}", where=about) from error
    return _answer(folder / ANSWER, outcome, about)


def _command() -> list[str]:
    called = [guard.__file__, str(os.getpid()), str(_SCRIPT), REQUEST, ANSWER]
    return [sys.executable, "-u", "-X", "utf8", *called]


def _variables(folder: Path) -> dict[str, str]:
    """Ours; it finds the modules that we find and no others, and leaves its temporary files in the folder of the exchange."""
    found = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": found, "PYTHONSAFEPATH": "1", "TMPDIR": str(folder)}


def _answer(path: Path, outcome: Outcome, about: str) -> dict[str, Any]:
    found = _read(path) if outcome.end == "exit" else {}
    said = found.get("error")
    if isinstance(said, dict):
        raise _refusal(said, about)
    if outcome.done and found:
        return found
    raise ToolchainError(
        f"Core AI {outcome.words()}",
        where=about,
        why=last_words(outcome),
        fix=f"give it more time: {SECONDS}" if outcome.end == "time" else None,
    )


def _refusal(said: Mapping[str, Any], about: str) -> FxcError:
    """fxc's own errors are raised again as they were; another is Core AI's."""
    kind = getattr(errors, str(said.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, FxcError):
        return kind(str(said["what"]), where=said.get("where"), why=said.get("why"), fix=said.get("fix"))
    return ToolchainError(
        "Core AI refused it", where=about, why=f"{said.get('error')}: {said.get('why')}", fix=None
    )


def _read(path: Path) -> dict[str, Any]:
    """The answer; empty if it is missing, cut short or not an object."""
    try:
        found = read_json(path)
    except ArtifactError:
        return {}
    return found if isinstance(found, dict) else {}
