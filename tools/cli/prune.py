"""``fxc prune``: a model in, a smaller one out, with a table of what went and why the rest stayed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.compiler.errors import UsageError
from fxc.tools.cli import options as o
from fxc.tools.cli.modelspec import parse_model, parse_shapes
from fxc.tools.cli.output import Result, columns, facts, warn
from fxc.tools.cli.progress import progress
from fxc.tools.cli.source import ImageWords, Source
from fxc.tools.data.spec import parse_spec

if TYPE_CHECKING:
    from fxc.passes.prune.pruned import Pruned


def prune_command(
    model: o.ModelText,
    ratio: Annotated[float, typer.Option("--ratio", help="Share of the channels that goes.")] = 0.5,
    macs: Annotated[
        float | None, typer.Option("--macs", help="Share of the multiply-accumulates that may be left.")
    ] = None,
    params: Annotated[
        float | None, typer.Option("--params", help="Share of the parameters that may be left.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option("--latency", help="Time per image on the target, by a model of it: a share, or 3.5ms."),
    ] = None,
    criterion: Annotated[
        str, typer.Option("--criterion", help="What makes a channel matter: l1, l2, bn, fpgm or random.")
    ] = "l2",
    ranking: Annotated[
        str,
        typer.Option("--ranking", help="local: the same share of every group; global: all ranked together."),
    ] = "local",
    align: Annotated[
        int | None, typer.Option("--align", help="Multiple that widths are rounded to. [the target's, or 1]")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="Round widths to what suits this target. Repeat it.",
            autocompletion=o.target_names,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", metavar="PATTERN=RATIO", help="A ratio of its own: 'layer4.*=0.2'. Repeat it."
        ),
    ] = None,
    protect: Annotated[
        list[str] | None, typer.Option("--protect", metavar="PATTERN", help="Keeps every channel. Repeat it.")
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Attention loses whole heads, not parts of each.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the random criterion.")] = 0,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Replay a plan in place of the words above.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the smaller program and the plan. [nothing is written]",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="Images on which batch norms are measured again: as for compile."
        ),
    ] = None,
    weights: o.Weights = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    limit: o.Limit = None,
    input_shape: o.InputShapes = None,
    batch: o.Batch = None,
    static_batch: o.StaticBatch = False,
    name: o.Name = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace what is in the output folder.")
    ] = False,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Remove channels from a model, with everything that must shrink with them, and show what happened to each group."""
    layers = dict(map(_layer, layer or ()))
    source = Source(
        model=parse_model(model),
        weights=weights,
        shapes=parse_shapes(input_shape, batch),
        batch=batch,
        static=static_batch or batch is not None,
        outputs=None,
        data=parse_spec(data) if data else None,
        images=ImageWords(o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")),
        limit=limit,
        name=name,
        trust=trust,
    )
    with progress() as report:
        report("load", 0, None)
        import fxc

        loaded = source.load()
        report("capture", 0, None)
        program = source.capture(loaded)
        samples = source.read(program, loaded)
        if isinstance(samples, fxc.Statistics):
            raise UsageError(
                "--data takes images: statistics hold no activations to measure", fix="--data images/"
            )
        report("prune", 0, None)
        pruned = fxc.prune(
            program, ratio, macs=macs, params=params, latency=_latency(latency), criterion=criterion, ranking=ranking, align=align,
            target=target or None, layers=layers, protect=protect or (), heads=heads, seed=seed, plan=plan,
            calibration_data=samples,
        )  # fmt: skip
        if output is not None:
            pruned.save(output, force=force)
    for text in loaded.warnings:
        warn(text)
    return told(pruned, output)


def _layer(text: str) -> tuple[str, float]:
    """``"layer4.*=0.2"`` taken apart.

    Raises:
        UsageError: another form.
    """
    pattern, equals, ratio = text.rpartition("=")
    try:
        return (pattern, float(ratio)) if equals and pattern else _no_layer(text)
    except ValueError:
        return _no_layer(text)


def _no_layer(text: str) -> tuple[str, float]:
    raise UsageError(f"--layer {text!r} cannot be read", fix="--layer 'layer4.*=0.2'")


def _latency(text: str | None) -> float | str | None:
    """A share as a number, anything else as it is."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def told(pruned: Pruned, output: Path | None) -> Result:
    """The groups as a table and as data."""
    report = pruned.report
    table = columns([_row(group) for group in report["groups"]], _HEADS)
    fixed = [(name, "; ".join(reasons)) for name, reasons in report["fixed"].items()]
    lines = [
        f"{report['model']} pruned" + (f" -> {output}" if output else ""),
        facts(
            [("MACs", _change(report["macs"])), ("parameters", _change(report["params"])), *_times(report)]
        ),
        table,
        *(["keep every channel:", columns(fixed, indent="  ")] if fixed else []),
        *(["* fewer channels change a norm's or a mean's statistic"] if _marked(report["groups"]) else []),
    ]
    return Result({**report, "output": str(output) if output else None}, "\n".join(lines))


def _times(report: dict[str, Any]) -> list[tuple[str, str]]:
    latency = report["latency"]
    if latency is None:
        return []
    before, after = latency["milliseconds"]
    change = f"{before:.3g} ms -> {after:.3g} ms ({after / before:.3f}x)"
    return [("latency", f"{change} by a model of {latency['target']}, not measured")]


_HEADS = ("group", "layers", "channels", "score kept / gone", "MACs of its layers")


def _marked(groups: list[dict[str, Any]]) -> bool:
    return any(map(_changes, groups))


def _changes(group: dict[str, Any]) -> bool:
    return bool(group["changes_statistics"]) and group["channels"][0] != group["channels"][1]


def _row(group: dict[str, Any]) -> list[str]:
    before, after = group["channels"]
    kept, gone = group["score"]["kept"], group["score"]["removed"]
    scores = f"{kept:.2f}" + ("" if gone is None else f" / {gone:.2f}")
    width = f"{before} -> {after}" + ("*" if _changes(group) else "")
    return [group["name"], str(len(group["layers"])), width, scores, _change(group["macs"])]


def _change(counts: list[int | None]) -> str:
    before, after = counts
    assert after is not None
    if before is None:
        return _short(after)
    return f"{_short(before)} -> {_short(after)}" + (f" ({after / before:.3f}x)" if before else "")


def _short(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
