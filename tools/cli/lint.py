"""``fxc lint``: will the model fit the target, without building anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxc.tools.cli import options as o
from fxc.tools.cli.modelspec import parse_model, parse_shapes
from fxc.tools.cli.output import Result, warn
from fxc.tools.cli.progress import progress

if TYPE_CHECKING:
    from fxc.compiler.backend import Violation


def lint_command(
    model: o.ModelText,
    target: o.TargetName,
    jetpack: o.JetPack = None,
    tensorrt: o.TensorRT = None,
    ios: o.IOS = None,
    ane: o.Ane = False,
    batches: o.Batches = None,
    weights: o.Weights = None,
    input_shape: o.InputShapes = None,
    batch: o.Batch = None,
    static_batch: o.StaticBatch = False,
    outputs: o.Outputs = None,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """List what of a model the target cannot take. Exit code 1 if anything would stop a compile."""
    from fxc import catalogue, words

    spec, found, shapes = parse_model(model), catalogue.target(target), parse_shapes(input_shape, batch)
    device: dict[str, Any] = {
        "jetpack": jetpack,
        "tensorrt": tensorrt,
        "ios": ios,
        "ane": ane,
        "batches": batches,
    }
    words.narrowed(catalogue.INSTALLED, (found,), words.device(**device))
    with progress() as report:
        report("load", 0, None)
        import fxc
        from fxc.tools.cli.models import load_model

        loaded = load_model(spec, weights=weights, shapes=shapes, batch=batch)
        report("lint", 0, None)
        static = False if static_batch or batch is not None else None
        program = fxc.capture(
            loaded.model,
            loaded.args,
            loaded.kwargs or None,
            dynamic_batch=static,
            outputs=outputs,
            name=loaded.name,
            trust=trust,
        )
        violations = fxc.lint(program, found.name, **device)
    for text in loaded.warnings:
        warn(text)
    return told(loaded.name, found.name, violations)


def told(model: str, target: str, violations: list[Violation]) -> Result:
    """The violations as text and as data, the fatal ones first."""
    ordered = sorted(violations, key=lambda v: not v.fatal)
    fatal = sum(v.fatal for v in ordered)
    document = {"model": model, "target": target, "fits": not fatal, "violations": [vars(v) for v in ordered]}
    verdict = f"{model} does not fit {target}: {fatal} violation(s)" if fatal else f"{model} fits {target}"
    return Result(document, "\n".join([*map(_lines, ordered), verdict]), 1 if fatal else 0)


def _lines(violation: Violation) -> str:
    kind = "error" if violation.fatal else "note"
    source = f" ({violation.source})" if violation.source else ""
    return f"{kind}: {violation.layer}{source}\n  why:   {violation.rule}\n  fix:   {violation.fix}"
