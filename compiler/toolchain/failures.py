"""Why an installation failed, and the way out."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from fxc.compiler.errors import ToolchainError
from fxc.compiler.toolchain.places import VARIABLE
from fxc.compiler.toolchain.process import Outcome
from fxc.compiler.toolchain.spec import Toolchain
from fxc.compiler.toolchain.worker import last_words

_ELSEWHERE = f"set {VARIABLE} to a folder"
_SAID = (
    (
        r"os error 28\b|Errno 28\b|No space left|os error 122\b|quota exceeded",
        "the disk is full",
        f"free space, or {_ELSEWHERE} on another disk",
    ),
    (
        r"os error 30\b|Errno 30\b|Read-only file system|os error 13\b|Errno 13\b|Permission denied",
        "a folder cannot be written",
        f"{_ELSEWHERE} that you may write",
    ),
    (
        r"dns error|error sending request|Could not connect|ConnectError|ConnectionError|NewConnectionError|"
        r"Name or service not known|name resolution|Network is unreachable|timed out|Connection (refused|reset)|"
        r"Failed to (fetch|download)|network connectivity is disabled|network was disabled",
        "the package index cannot be reached",
        "check the network and the proxy (HTTPS_PROXY) or name a mirror (UV_DEFAULT_INDEX, PIP_INDEX_URL), and run it again: "
        "what was downloaded is used again",
    ),
    (
        r"No interpreter found|Failed to inspect Python|No download found|ensurepip",
        "there is no Python that can make the environment",
        "pip install uv, which fetches a Python that fits, and run it again",
    ),
    (
        r"No solution found|No matching distribution|ResolutionImpossible|Could not find a version",
        "the package index has no versions that fit together",
        "see whether the index of your proxy or mirror is complete",
    ),
)


def explain_failure(toolchain: Toolchain, step: str, log: Path, outcome: Outcome) -> ToolchainError:
    """The error for a command of the installation that failed; ``step`` says what it should have done."""
    text = "\n".join(outcome.said)
    reasons = ((what, fix) for pattern, what, fix in _SAID if re.search(pattern, text, re.IGNORECASE))
    what, fix = next(reasons, (f"{step} {outcome.words()}", f"see the log, then {toolchain.command}"))
    return ToolchainError(
        f"the toolchain {toolchain.name} cannot be installed: {what}",
        where=str(log),
        why=last_words(outcome),
        fix=fix,
    )


def explain_folder(toolchain: Toolchain, verb: str, error: OSError, folder: Path) -> ToolchainError:
    """The error for a folder of fxc's own that cannot be changed."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ToolchainError(
        f"the toolchain {toolchain.name} cannot be {verb}: {error.strerror or error}",
        where=str(error.filename or folder),
        fix=f"free space, or {_ELSEWHERE} on another disk" if full else f"{_ELSEWHERE} that you may write",
    )
