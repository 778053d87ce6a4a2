"""A script run in a toolchain's environment: a request goes in as JSON, an answer comes back as JSON.

The script is called as ``script.py REQUEST ANSWER`` in the folder of the exchange. It reads the file REQUEST and writes the
file ANSWER, in one step at its end: an object, or ``{"error": {"what": …, "why": …, "fix": …}}`` where it refuses. Arrays
travel as ``.npy`` files in that folder, named in the JSON; nothing is pickled. A line that it prints as ``fxc: text`` is
progress; everything else that it says is for the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxc.compiler.errors import ArtifactError, ToolchainError
from fxc.compiler.files import read_json, reading, safe_relative, write_json
from fxc.compiler.toolchain import guard
from fxc.compiler.toolchain.environment import Environment
from fxc.compiler.toolchain.lock import using
from fxc.compiler.toolchain.process import Outcome, supervise

if TYPE_CHECKING:
    import numpy as np

REQUEST, ANSWER = "request.json", "answer.json"
_PROGRESS = "fxc: "
_FLAGS = ("-I", "-u", "-X", "utf8")


def run(
    environment: Environment,
    script: Path,
    request: Mapping[str, Any],
    folder: Path,
    *,
    seconds: float,
    log: Path,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run ``script`` with the environment's Python and hand back its answer.

    Args:
        environment: an installed one, from :func:`fxc.compiler.toolchain.environment.require`.
        script: a Python file that needs nothing but what is installed there.
        request: plain JSON data.
        folder: where the exchange happens, and the script's current folder; it exists.
        seconds: time limit, wall clock; what it started is stopped with it.
        log: file that everything it says is appended to.
        report: called with each line of its progress.

    Raises:
        ToolchainError: it refused, failed, crashed, hung, or left no answer; ``why`` has its last lines, ``where`` the log.
    """
    folder, log = Path(os.path.abspath(folder)), Path(os.path.abspath(log))
    name = environment.toolchain.name
    try:
        write_json(folder / REQUEST, dict(request))
        (folder / ANSWER).unlink(missing_ok=True)
        with using(environment.lock):
            outcome = supervise(
                _command(environment, script),
                folder=folder,
                log=log,
                seconds=seconds,
                variables=environment.variables(),
                line=_progress(report),
            )
    except OSError as error:
        raise ToolchainError(
            f"the toolchain {name} cannot be run: {error.strerror}", where=str(error.filename or folder)
        ) from error
    return _answer(name, folder / ANSWER, log, outcome)


def save_arrays(folder: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, str]:
    """Write each array as ``<key>.npy``; key to file name, as a request carries them."""
    import numpy as np

    names = {key: safe_relative(f"{key}.npy") for key in arrays}
    for key, array in arrays.items():
        np.save(folder / names[key], array, allow_pickle=False)
    return names


def load_arrays(folder: Path, names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Read the ``.npy`` files that an answer names.

    Raises:
        ToolchainError: a name that leads out of the folder, or a file that is missing or damaged.
    """
    import numpy as np

    arrays = []
    for name in names:
        try:
            path = folder / safe_relative(name)
            with reading(path):
                arrays.append(np.load(path, allow_pickle=False))
        except ArtifactError as error:
            raise ToolchainError(f"an array of the answer: {error.what}", where=error.where) from error
    return arrays


def _command(environment: Environment, script: Path) -> list[str]:
    called = [str(os.getpid()), os.path.abspath(script), REQUEST, ANSWER]
    return [str(environment.python), *_FLAGS, os.path.abspath(guard.__file__), *called]


def _progress(report: Callable[[str], None] | None) -> Callable[[str], None] | None:
    if report is None:
        return None
    return lambda text: report(text[len(_PROGRESS) :]) if text.startswith(_PROGRESS) else None


def _answer(name: str, path: Path, log: Path, outcome: Outcome) -> dict[str, Any]:
    refused = _read(path).get("error") if outcome.end == "exit" and path.is_file() else None
    if isinstance(refused, dict):
        said = {key: str(refused[key]) for key in ("why", "fix") if refused.get(key)}
        why = said.get("why") or last_words(outcome)
        what = f"the toolchain {name}: {refused.get('what', 'it refused')}"
        raise ToolchainError(what, where=str(log), why=why, fix=said.get("fix"))
    if not outcome.done:
        raise ToolchainError(
            f"the toolchain {name} {outcome.words()}",
            where=str(log),
            why=last_words(outcome),
            fix="give it more time" if outcome.end == "time" else None,
        )
    if answer := _read(path):
        return answer
    raise ToolchainError(
        f"the toolchain {name} left no complete answer", where=str(log), why=last_words(outcome)
    )


def last_words(outcome: Outcome) -> str:
    """The last lines that a command said, as one text under a message's ``why:``."""
    return "\n         ".join(("its last lines:", *outcome.said)) if outcome.said else "it said nothing"


def _read(path: Path) -> dict[str, Any]:
    """The answer; empty if it is missing, cut short or not an object."""
    try:
        found = read_json(path)
    except ArtifactError:
        return {}
    return found if isinstance(found, dict) else {}
