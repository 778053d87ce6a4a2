"""The ``fxc`` command: subcommands, and how every failure leaves the process.

Exit codes: 0 done, 1 refused or not proven, 2 wrong usage, 70 a bug in fxc, 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

import typer

from fxc.compiler.errors import ArtifactError, FxcError
from fxc.tools.cli.compile import compile_command
from fxc.tools.cli.inspect import inspect_command
from fxc.tools.cli.lint import lint_command
from fxc.tools.cli.output import Result, paint, write, write_error
from fxc.tools.cli.run import run_command
from fxc.tools.cli.targets import targets_command
from fxc.tools.cli.verify import verify_command

REFUSED, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130


def application() -> typer.Typer:
    """The command line. Its help is plain text: the coloured form takes longer to import than to read."""
    app = typer.Typer(
        name="fxc",
        help="Compile PyTorch vision models for edge chips, with proof that the numbers still hold.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command("compile")(compile_command)
    app.command("run")(run_command)
    app.command("verify")(verify_command)
    app.command("inspect")(inspect_command)
    app.command("lint")(lint_command)
    app.command("targets")(targets_command)
    app.callback(invoke_without_command=True)(_root)
    return app


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version of fxc."),
) -> Result | None:
    """Compile PyTorch vision models for edge chips, with proof that the numbers still hold."""
    import fxc

    if version:
        typer.echo(f"fxc {fxc.__version__}")
        raise typer.Exit()
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Nothing but the result is written to stdout with ``--json``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, stdout = "--json" in words and "--help" not in words, sys.stdout
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = _outcome(words, debug="--debug" in words)
    if result.text or (as_json and result.document):
        write(result, stdout if as_json else sys.stdout, as_json=as_json)
    return result.code


def _outcome(words: list[str], *, debug: bool) -> Result:
    """What the command returned, or what its failure amounts to."""
    try:
        returned = application()(args=words, prog_name="fxc", standalone_mode=False)
    except KeyboardInterrupt:
        return _interrupted()
    except FxcError as error:
        return _refused(error, debug=debug)
    except OSError as error:
        where = str(error.filename) if error.filename else None
        return _refused(ArtifactError(error.strerror or str(error), where=where), debug=debug)
    except typer.TyperException as error:
        return _misused(error)
    except Exception as error:  # noqa: BLE001  the outermost frame: what is left is a bug and must say so
        return _bug(error, debug=debug)
    if isinstance(returned, Result):
        return returned
    return _interrupted() if returned == INTERRUPTED else Result({}, "", int(returned or 0))


def _refused(error: FxcError, *, debug: bool) -> Result:
    if debug:
        traceback.print_exception(error)
    write_error(error)
    return Result(error.to_json(), "", REFUSED)


def _misused(error: typer.TyperException) -> Result:
    """A wrong option or argument, as the CLI library words it."""
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        print(paint("error: ", "1;31") + str(error), file=sys.stderr)
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    code = int(getattr(error, "exit_code", USAGE))
    return Result(
        {"error": "UsageError", "what": said, "where": None, "why": None, "fix": "fxc --help"}, "", code
    )


def _interrupted() -> Result:
    print("interrupted; the output is as it was", file=sys.stderr)
    return Result({"error": "Interrupted", "what": "interrupted; the output is as it was"}, "", INTERRUPTED)


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
