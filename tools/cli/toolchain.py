"""``fxc toolchain``: vendors' toolkits that live in environments of their own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fxc.tools.cli import options as o
from fxc.tools.cli.output import Result, columns, size

HELP = "Install, list and remove vendors' toolkits that need an environment of their own."


def toolchain_names(incomplete: str) -> list[str]:
    """Names that begin with what was typed, for shell completion."""
    from fxc.toolchains import TOOLCHAINS

    return [name for name in TOOLCHAINS if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="'fxc toolchain list' lists them.",
        show_default=False,
        autocompletion=toolchain_names,
    ),
]


def install_command(name: Name, as_json: o.Json = False, debug: o.Debug = False) -> Result:
    """Install a toolkit, or go on with an installation that was interrupted. Downloads can be gigabytes."""
    from fxc.compiler.toolchain.environment import status
    from fxc.compiler.toolchain.install import install
    from fxc.toolchains import toolchain

    tool = toolchain(name)
    env = install(tool, _told)
    found = status(env)
    document = {"name": name, "version": found.version, "folder": str(env.folder), "size": found.size}
    return Result(
        document,
        f"{name}: {tool.package} {found.version} is ready in {env.folder} ({size(found.size)})",
    )


def list_command(as_json: o.Json = False, debug: o.Debug = False) -> Result:
    """List the toolkits: ready, incomplete or missing."""
    from fxc.compiler.toolchain.environment import environment, status
    from fxc.toolchains import toolchains

    rows, documents, notes = [], [], []
    for tool in toolchains():
        env = environment(tool)
        found = status(env)
        version = found.version or tool.version
        rows.append((tool.name, version, found.state, size(found.size) if found.size else "-", env.folder))
        documents.append(
            {
                "name": tool.name,
                "package": tool.package,
                "version": version,
                "state": found.state,
                "size": found.size,
                "folder": str(env.folder),
                "why": found.why or None,
            }
        )
        if found.state != "ready":
            notes.append(f"{tool.name}: {found.why + '; ' if found.why else ''}{tool.command}")
    table = columns(rows, ("toolchain", "version", "state", "size", "folder"))
    return Result({"toolchains": documents}, "\n".join([table, *([""] if notes else []), *notes]))


def remove_command(name: Name, as_json: o.Json = False, debug: o.Debug = False) -> Result:
    """Delete the environment of a toolkit."""
    from fxc.compiler.toolchain.environment import environment
    from fxc.compiler.toolchain.remove import remove
    from fxc.toolchains import toolchain

    tool = toolchain(name)
    folder, freed = environment(tool).folder, remove(tool)
    text = f"removed {folder} ({size(freed)})" if freed else f"{name} is not installed"
    return Result({"name": name, "folder": str(folder), "freed": freed}, text)


def toolchain_app() -> typer.Typer:
    """The subcommands of ``fxc toolchain``."""
    app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("install")(install_command)
    app.command("list")(list_command)
    app.command("remove")(remove_command)
    return app


def _told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
