"""``python -m fxc.tools.bench COMMAND [MODEL ...]``: measure fxc beside its peers and write the tables."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from fxc.compiler.errors import FxcError, UsageError
from fxc.compiler.files import write_json, write_text
from fxc.tools.bench.contestants import CONTESTANTS, INSTALL, PEERS, missing, title
from fxc.tools.bench.machine import facts, listed
from fxc.tools.bench.plan import DEFAULT, Plan

COMMANDS = ("compile", "latency", "quality", "memory", "growth")
"""One module each, with ``MODELS``, ``run(plan, log)`` and ``tables(plans, rows)``."""


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit code: 0, or 1 if fxc itself failed on a model."""
    options = _parser().parse_args(arguments)
    try:
        base = _plan(options)
    except FxcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in base.contestants:
        if absent := missing(name):
            print(f"{title(name)}: {', '.join(absent)} is not installed: {INSTALL}", file=sys.stderr)
    found = {
        command: _measured(command, options.models, base, output)
        for command, output in _outputs(options.command, options.output).items()
    }
    return 1 if any(_failed(row) for rows in found.values() for row in rows.values()) else 0


def _outputs(command: str, given: Path | None) -> dict[str, Path]:
    """The Markdown file of each command to run; several share the given name with their own at its end."""
    commands = COMMANDS if command == "all" else (command,)
    files = {name: Path("build/bench") / f"{name}.md" for name in commands}
    if given is not None:
        files = dict.fromkeys(commands, given)
        if len(commands) > 1:
            files = {name: given.with_name(f"{given.stem}-{name}{given.suffix}") for name in commands}
    files[commands[0]].parent.mkdir(parents=True, exist_ok=True)
    return files


def _measured(command: str, models: list[str], base: Plan, output: Path) -> dict[str, Any]:
    """Run one command over its models; the files are rewritten after each, so that a break loses one model."""
    module = _module(command)
    plans = {_shown(model): replace(base, model=model) for model in models or module.MODELS}
    rows: dict[str, Any] = {}
    for model, plan in plans.items():
        start = time.perf_counter()
        print(f"{command} {model} …", end=" ", file=sys.stderr, flush=True)
        rows[model] = module.run(plan, output.with_suffix(".log"))
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
        _write(command, plans, rows, output)
    print(output.read_text(encoding="utf-8"))
    return rows


def _write(command: str, plans: Mapping[str, Plan], rows: Mapping[str, Any], output: Path) -> None:
    plan = next(iter(plans.values()))
    found = facts(plan.threads)
    tables = [table.markdown() for table in _module(command).tables(plans, rows)]
    paths = "\n".join(f"- {title(n)}: {c.how}" for n, c in CONTESTANTS.items() if n in plan.contestants)
    data = f"{plan.images} calibration images of {plan.resolution}x{plan.resolution} from {plan.data or 'the tool itself'}"
    text = "\n".join([f"# {command}\n", *tables, "## How\n", paths, listed(found), f"- data: {data}", ""])
    write_text(output, text)
    write_json(
        output.with_suffix(".json"),
        {"command": command, "machine": found, "plan": vars(plan), "rows": dict(rows)},
    )


def _shown(model: str) -> str:
    """A factory goes by its file's name."""
    folder, slash, _ = model.partition(".py:")[0].rpartition("/")
    return model.removeprefix(folder + slash)


def _module(command: str) -> Any:
    return importlib.import_module(f"fxc.tools.bench.{command}")


def _failed(row: Mapping[str, Any]) -> bool:
    """Whether anything but a peer failed somewhere in a row."""
    if "failed" in row:
        return True
    return any(_failed(v) for k, v in row.items() if isinstance(v, Mapping) and k not in PEERS)


def _plan(options: argparse.Namespace) -> Plan:
    variants = dict(_variant(text) for text in options.variant)
    peers = tuple(options.peers.split(",")) if options.peers else ()
    if unknown := [p for p in peers if p not in PEERS]:
        raise UsageError(f"unknown peer {unknown[0]!r}", fix=f"known: {', '.join(PEERS)}")
    return Plan(
        model="",
        contestants=(DEFAULT, *(f"{DEFAULT}:{name}" for name in variants), *peers),
        variants=variants,
        data=options.data,
        rounds=options.rounds,
        calls=options.calls,
        cold=options.cold,
        resolution=options.resolution,
        images=options.images,
        batch=options.batch,
        held_out=options.held_out,
        threads=options.threads,
        hints=tuple(options.hints.split(",")),
    )


def _variant(text: str) -> tuple[str, Mapping[str, Any]]:
    name, equals, words = text.partition("=")
    try:
        mapping = yaml.safe_load(words) if equals else {"observer": name}
    except yaml.YAMLError as error:
        raise UsageError(f"--variant {text!r} is not YAML after the =", why=str(error)) from error
    if not name or not isinstance(mapping, Mapping):
        raise UsageError(f"--variant {text!r} cannot be read", fix="--variant 'mse={observer: mse}'")
    return name, mapping


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fxc.tools.bench", description="Measure fxc beside ONNX Runtime and NNCF."
    )
    parser.add_argument("command", choices=(*COMMANDS, "all"))
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="torchvision name or file.py:factory(argument)"
    )
    parser.add_argument("-o", "--output", type=Path, help="Markdown file; JSON and a log lie beside it")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="timed inferences in a round of latency")
    parser.add_argument("--cold", type=int, default=3, help="fresh processes for the cold compile time")
    parser.add_argument("--peers", default="ort,nncf", help="whom to run beside fxc; empty for none")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME[={words}]",
        help="one more fxc, with quantization words in YAML; a bare name is an observer",
    )  # fmt: skip
    parser.add_argument(
        "--data", default="", metavar="FILE.py:FUNCTION", help="function(n, resolution, seed=…)"
    )
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--images", type=int, default=32, help="for calibration")
    parser.add_argument("--batch", type=int, default=8, help="images through torch at once")
    parser.add_argument("--held-out", type=int, default=32, help="images on which quality is judged")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hints", default="f32,default", help="OpenVINO precision hints for latency")
    return parser


if __name__ == "__main__":
    sys.exit(main())
