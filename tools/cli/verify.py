"""``fxc verify``: does a bundle still answer as it did, as its model and a device do, and how often is it right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.compiler.errors import UsageError
from fxc.tools.cli import device, mlpackage
from fxc.tools.cli import options as o
from fxc.tools.cli.modelspec import ModelSpec, parse_model
from fxc.tools.cli.output import Result, columns, warn
from fxc.tools.cli.progress import Report, progress
from fxc.tools.data.spec import DataSpec, parse_spec

if TYPE_CHECKING:
    from torch import Tensor

    from fxc.compiler.artifact import Artifact
    from fxc.passes.image_input import ImageInput
    from fxc.tools.data.labelled import LabelledData

SLACK_DB = 1.0
"""Another host's kernels may round sums differently; more than this below the recorded SQNR is a fault."""

Flat = Callable[["tuple[Tensor, ...]"], "Sequence[Tensor]"]
"""A model as a function from flat inputs to flat outputs."""


@dataclass(frozen=True)
class Check:
    """One output compared with what it should be.

    Attributes:
        what: what it was compared with.
        output: its name.
        sqnr_db: signal to noise ratio against that, ``None`` where the reference is zero.
        floor_db: the least that passes.
        same: whether every bit agrees with the recorded output; ``None`` where none was recorded.
    """

    what: str
    output: str
    sqnr_db: float | None
    floor_db: float
    same: bool | None = None

    @property
    def passed(self) -> bool:
        """Whether the ratio reaches its floor; a reference that is zero proves nothing and fails."""
        return bool(self.same) or (self.sqnr_db is not None and self.sqnr_db >= self.floor_db)


def verify_command(
    bundle: o.BundlePath,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="Compare with this float model, not only with the recorded outputs.",
        ),
    ] = None,
    weights: o.Weights = None,
    outputs: o.Outputs = None,
    device_outputs: device.Folder = None,
    engine: device.Engine = None,
    tolerance: device.Tolerance = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="Labelled: a folder of class folders, or .npz or .pt with x and y."
        ),
    ] = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    limit: o.Limit = None,
    trust: o.Trust = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Check a bundle: hashes, recorded outputs, a float model, a device, top-1. Exit code 1 if anything fails."""
    model = parse_model(against) if against else None
    spec = parse_spec(data) if data else None
    words = o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")
    if mlpackage.is_package(bundle):
        return verify_package(bundle, model, str(against), weights, trust=trust)
    with progress() as report:
        report("load", 0, None)
        from fxc.tools.cli.bundle import image_input, one_bundle

        artifact = one_bundle(bundle)
        report("device", 0, None)
        answered = device.compare(artifact, device_outputs, engine, tolerance)
        report("golden", 0, None)
        now = proof_run(artifact)
        checks = golden_checks(artifact, now)
        reference = None
        if model is not None:
            report("float model", 0, None)
            reference = floats_of(
                image_input(artifact), model, weights, outputs, artifact.golden.inputs, trust
            )
            checks += model_checks(artifact, now, reference, str(against))
        top1 = labelled_top1(artifact, spec, words, limit, reference, report) if spec is not None else None
    return told(str(bundle), checks, top1, answered)


def verify_package(
    path: Path, model: ModelSpec | None, said: str, weights: str | None, *, trust: bool
) -> Result:
    """Compare a Core ML package with a float model on seeded inputs.

    Raises:
        UsageError: no model to compare with.
    """
    if model is None:
        raise UsageError(f"{path} records no answers of its own", fix="give the float model: --against MODEL")
    with progress() as report:
        report("load", 0, None)
        from fxc.proof import sqnr_db

        runner = mlpackage.evaluator(path)
        inputs = mlpackage.example(runner)
        report("float model", 0, None)
        wanted = float_model(model, weights, None, inputs, trust=trust)(inputs)
        report("run", 0, None)
        found = mlpackage.answers(runner, inputs)
    names, least = mlpackage.numeric_outputs(runner), mlpackage.floor(runner)
    if [tuple(f.shape) for f in found] != [tuple(w.shape) for w in wanted]:
        raise UsageError(
            f"{path} and {said} have other outputs",
            why=f"{[list(f.shape) for f in found]} and {[list(w.shape) for w in wanted]}",
        )
    checks = [Check(said, n, sqnr_db(w.float(), f.float()), least) for n, f, w in zip(names, found, wanted)]
    return told(str(path), checks, None)


def proof_run(artifact: Artifact) -> list[Tensor]:
    """What the model file answers to the recorded inputs, at the precision that it was proven with."""
    import torch

    precision = artifact.target.options.get("proof_precision", "f32")
    outputs = artifact.runner(precision=precision)([x.numpy() for x in artifact.golden.inputs])
    return [torch.from_numpy(y) for y in outputs]


def golden_checks(artifact: Artifact, now: Sequence[Tensor]) -> list[Check]:
    """Today's answers against the float program's that were recorded; also whether they are the recorded bits."""
    from fxc.proof import sqnr_db
    from fxc.tools.cli.bundle import output_names

    golden = artifact.golden
    checks = []
    for name, got, then, exact in zip(output_names(artifact), now, golden.outputs, golden.float_outputs):
        same = got.shape == then.shape and bool(got.equal(then.to(got.dtype)))
        floats = exact.is_floating_point() and got.shape == exact.shape
        db, then_db = (sqnr_db(exact, got), sqnr_db(exact, then)) if floats else (None, None)
        checks.append(Check("recorded float output", name, db, _floor(then_db), same))
    return checks


def model_checks(artifact: Artifact, now: Sequence[Tensor], reference: Flat, model: str) -> list[Check]:
    """Today's answers against a float model's, on the recorded inputs."""
    from fxc.proof import sqnr_db
    from fxc.tools.cli.bundle import output_names

    golden = artifact.golden
    wanted = reference(golden.inputs)
    if [tuple(y.shape) for y in wanted] != [tuple(y.shape) for y in now]:
        raise UsageError(
            f"{model} gives other outputs than the bundle",
            why=f"shapes {[list(y.shape) for y in wanted]}, the bundle has {[list(y.shape) for y in now]}",
            fix="--outputs cuts the model where the bundle was cut",
        )
    checks = []
    rows = zip(output_names(artifact), now, wanted, golden.outputs, golden.float_outputs)
    for name, got, want, then, exact in rows:
        if want.is_floating_point():
            checks.append(Check(model, name, sqnr_db(want, got), _floor(sqnr_db(exact, then))))
    return checks


def _floor(recorded_db: float | None) -> float:
    """The least SQNR that passes. Nothing about agreement can be read off beyond the noise of float sums (100 dB)."""
    return 0.0 if recorded_db is None else min(recorded_db, 100.0) - SLACK_DB


def floats_of(
    image: ImageInput | None,
    spec: ModelSpec,
    weights: str | None,
    outputs: list[str] | None,
    inputs: tuple[Tensor, ...],
    trust: bool,
) -> Flat:
    """:func:`float_model` for a bundle's inputs: where it takes bytes, ``image`` decodes them."""
    if image is None:
        return float_model(spec, weights, outputs, inputs, trust=trust)
    model = float_model(spec, weights, outputs, image.decode(inputs), trust=trust)
    return lambda given: model(image.decode(given))


def float_model(
    spec: ModelSpec,
    weights: str | None,
    outputs: list[str] | None,
    inputs: tuple[Tensor, ...],
    *,
    trust: bool,
) -> Flat:
    """A model argument as a function; a module runs in plain PyTorch, so that no code of the compiler judges itself."""
    import torch
    from torch import nn
    from torch.utils import _pytree as pytree

    import fxc
    from fxc.tools.cli.models import load_model

    loaded = load_model(spec, weights=weights)
    for text in loaded.warnings:
        warn(text)
    if isinstance(loaded.model, nn.Module) and not outputs:
        module = loaded.model

        def eager(inputs: tuple[Tensor, ...]) -> list[Tensor]:
            with torch.no_grad():
                leaves = pytree.tree_leaves(module(*inputs))
                return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

        return eager
    program = fxc.capture(loaded.model, inputs, outputs=outputs, name=loaded.name, trust=trust)
    return lambda inputs: program.run_flat(*inputs)


def labelled_top1(
    artifact: Artifact,
    spec: DataSpec,
    words: tuple[Any, Any, Any],
    limit: int | None,
    reference: Flat | None,
    report: Report,
) -> dict[str, Any]:
    """Top-1 of the first output of each form of the model, and how often the file agrees with the float model."""
    from fxc.tools.cli.bundle import input_specs, preprocessing
    from fxc.tools.data.labelled import load_labelled

    size, mean, std = words
    data = load_labelled(
        spec,
        inputs=input_specs(artifact),
        size=size,
        mean=mean,
        std=std,
        preprocessing=preprocessing(artifact),
        limit=limit,
    )
    for text in data.warnings:
        warn(text)
    graph = artifact.program
    forms: dict[str, Flat] = {
        "artifact": lambda batch: artifact.run_flat(*batch),
        "quantized graph": lambda batch: graph.run_flat(*batch),
    }
    if reference is not None:
        forms["float model"] = reference
    return {"data": data.said, "samples": len(data.labels), **_scores(data, forms, report)}


def _scores(data: LabelledData, forms: dict[str, Flat], report: Report) -> dict[str, Any]:
    import numpy as np

    answers: dict[str, list[int]] = {name: [] for name in forms}
    for batch in data:
        for name, form in forms.items():
            answers[name] += form(batch)[0].flatten(1).argmax(1).tolist()
        report("top-1", len(answers["artifact"]), len(data.labels))
    guesses = {name: np.array(rows) for name, rows in answers.items()}
    right = {name: float((rows == data.labels).mean()) for name, rows in guesses.items()}
    agreement = {
        name: float((rows == guesses["artifact"]).mean())
        for name, rows in guesses.items()
        if name != "artifact"
    }
    return {"top1": right, "agreement_with_artifact": agreement}


def told(
    bundle: str,
    checks: list[Check],
    top1: dict[str, Any] | None,
    answered: device.Answered | None = None,
) -> Result:
    """A table of the checks, what a device answered, the accuracies and the verdict."""
    passed = all(check.passed for check in checks) and (answered is None or answered.passed)
    rows = [
        (
            "ok" if c.passed else "FAIL",
            c.output,
            c.what,
            "-" if c.sqnr_db is None else f"{c.sqnr_db:.1f}",
            f"{c.floor_db:.1f}",
            {True: "identical", False: "differs", None: ""}[c.same],
        )
        for c in checks
    ]
    table = columns(rows, ("", "output", "against", "SQNR dB", "at least", "recorded bits"))
    text = [
        table,
        *([device.text(answered)] if answered is not None else []),
        *([_top1_table(top1)] if top1 else []),
        f"{bundle}: {'verified' if passed else 'NOT verified'}",
    ]
    document = {
        "bundle": bundle,
        "verified": passed,
        "checks": [{**vars(c), "passed": c.passed} for c in checks],
        "device": device.document(answered),
        "labelled": top1,
    }
    return Result(document, "\n\n".join(text), 0 if passed else 1)


def _top1_table(top1: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{right:.2%}",
            f"{top1['agreement_with_artifact'][name]:.2%}" if name in top1["agreement_with_artifact"] else "",
        )
        for name, right in top1["top1"].items()
    ]
    return top1["data"] + "\n" + columns(rows, ("", "top-1", "agrees with the artifact"))
