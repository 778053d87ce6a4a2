"""The ``fxc`` command: how it starts, and how every failure leaves the process.

Exit codes: 0 done, 1 refused or not proven, 2 wrong usage, 70 a bug in fxc, 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

from fxc.compiler.errors import ArtifactError, FxcError
from fxc.tools.cli.output import Result, paint, write, write_error

REFUSED, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Nothing but the result is written to stdout with ``--json``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, stdout = "--json" in words and "--help" not in words, sys.stdout
    _end_as_interrupted()
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = _outcome(words, debug="--debug" in words)
    if result.text or (as_json and result.document):
        try:
            write(result, stdout if as_json else sys.stdout, as_json=as_json)
        except ArtifactError as error:
            return _refused(error, debug="--debug" in words).code
    return result.code


def _outcome(words: list[str], *, debug: bool) -> Result:
    """What the command returned, or what its failure amounts to."""
    try:
        returned = _instant(words) or _parsed(words)
    except KeyboardInterrupt:
        return _interrupted()
    except FxcError as error:
        return _refused(error, debug=debug)
    except OSError as error:
        where = str(error.filename) if error.filename else None
        return _refused(ArtifactError(error.strerror or str(error), where=where), debug=debug)
    except Exception as error:  # noqa: BLE001  the outermost frame: what is left is a bug and must say so
        return _misused(error) if _is_usage(error) else _bug(error, debug=debug)
    if isinstance(returned, Result):
        return returned
    code = returned if isinstance(returned, int) else 0
    return _interrupted() if code == INTERRUPTED else Result({}, "", code)


def _end_as_interrupted() -> None:
    """Let a polite kill and a lost terminal clean up as Ctrl-C does; by default they leave temporary folders."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)


def _instant(words: list[str]) -> Result | None:
    """``fxc targets``: parsing its two flags with the CLI library would take three times as long as the answer."""
    if words[:1] != ["targets"] or not set(words[1:]) <= {"--json", "--debug"}:
        return None
    from fxc.tools.cli.listing import listing

    return listing()


def _parsed(words: list[str]) -> object:
    """What the command that ``words`` name returned, or the exit code of a help text."""
    from fxc.tools.cli.app import application

    return application()(args=words, prog_name="fxc", standalone_mode=False)


def _is_usage(error: Exception) -> bool:
    from typer import TyperException

    return isinstance(error, TyperException)


def _refused(error: FxcError, *, debug: bool) -> Result:
    if debug:
        traceback.print_exception(error)
    write_error(error)
    return Result(error.to_json(), "", REFUSED)


def _misused(error: Exception) -> Result:
    """A wrong option or argument, in the words of the CLI library."""
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    if hasattr(error, "show"):
        error.show()
    else:
        print(paint("error: ", "1;31") + said, file=sys.stderr)
    code = int(getattr(error, "exit_code", USAGE))
    return Result(
        {"error": "UsageError", "what": said, "where": None, "why": None, "fix": "fxc --help"}, "", code
    )


def _interrupted() -> Result:
    said = "interrupted; the output is the old one or the new one, whole"
    print(said, file=sys.stderr)
    return Result({"error": "Interrupted", "what": said}, "", INTERRUPTED)


def _bug(error: Exception, *, debug: bool) -> Result:
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    if debug:
        traceback.print_exception(error)
    print(paint("error: ", "1;31") + f"{said}\n  this is a bug in fxc", file=sys.stderr)
    if not debug:
        print("  run it again with --debug and report the traceback", file=sys.stderr)
    return Result(
        {"error": "Bug", "what": said, "where": None, "why": None, "fix": "run it with --debug"}, "", BUG
    )


if __name__ == "__main__":
    sys.exit(main())
