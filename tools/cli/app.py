"""The subcommands as one application of the CLI library."""

from __future__ import annotations

import typer

from fxc.tools.cli.calibrate import calibrate_command
from fxc.tools.cli.compile import compile_command
from fxc.tools.cli.inspect import inspect_command
from fxc.tools.cli.lint import lint_command
from fxc.tools.cli.prune import prune_command
from fxc.tools.cli.run import run_command
from fxc.tools.cli.targets import targets_command
from fxc.tools.cli.toolchain import toolchain_app
from fxc.tools.cli.verify import verify_command


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
    app.command("calibrate")(calibrate_command)
    app.command("prune")(prune_command)
    app.command("run")(run_command)
    app.command("verify")(verify_command)
    app.command("inspect")(inspect_command)
    app.command("lint")(lint_command)
    app.command("targets")(targets_command)
    app.add_typer(toolchain_app(), name="toolchain")
    app.callback(invoke_without_command=True)(_root)
    return app


def _root(version: bool = typer.Option(False, "--version", help="Print the version of fxc.")) -> None:
    """Compile PyTorch vision models for edge chips, with proof that the numbers still hold."""
    import fxc

    if version:
        typer.echo(f"fxc {fxc.__version__}")
        raise typer.Exit()
