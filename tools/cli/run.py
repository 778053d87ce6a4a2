"""``fxc run``: a bundle and an input, the output as numbers or as a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fxc.compiler.errors import ArtifactError, UsageError
from fxc.compiler.folders import check_outside_bundles
from fxc.tools.cli import mlpackage
from fxc.tools.cli import options as o
from fxc.tools.cli.output import Result, columns, shape, warn
from fxc.tools.cli.progress import Report, progress

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5
SHOWN = 10
"""Samples whose classes are printed; a file (-o) holds all."""


def run_command(
    bundle: o.BundlePath,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Images, a folder of them, .npy, .npz or .pt.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the outputs as .npy or .npz.")
    ] = None,
    size: o.Size = None,
    mean: o.Mean = None,
    std: o.Std = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", metavar="f32|f16", help="Of a Core ML package: f16 rounds every float16 result."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
    as_json: o.Json = False,
    debug: o.Debug = False,
) -> Result:
    """Run a bundle's model file, or a Core ML package (.mlpackage), on this host."""
    _check_output(output, force=force)
    words = o.sizes(size, "--size"), o.floats(mean, "--mean"), o.floats(std, "--std")
    for path in inputs:
        if not path.exists():
            raise UsageError(f"there is no {path}")
    if mlpackage.is_package(bundle):
        return run_package(bundle, inputs, words, precision, output)
    if precision is not None:
        raise UsageError(
            "--precision is for a Core ML package", fix="leave it out: a bundle says itself what it is"
        )
    with progress() as report:
        report("load", 0, None)
        from fxc.tools.cli.bundle import input_specs, one_bundle, output_names, preprocessing, read_inputs

        artifact = one_bundle(bundle)
        batches = read_inputs(input_specs(artifact), preprocessing(artifact), inputs, *words)
        sources, runs = run_all(lambda batch: artifact.run_flat(*batch), batches, report)
    categories = (artifact.manifest.get("preprocessing") or {}).get("categories") or []
    return _finished(dict(zip(output_names(artifact), _joined(runs))), sources, categories, output)


def run_package(
    path: Path, inputs: list[Path], words: tuple[Any, Any, Any], precision: str | None, output: Path | None
) -> Result:
    """Run a Core ML package in the evaluator."""
    with progress() as report:
        report("load", 0, None)
        from fxc.tools.cli.bundle import read_inputs

        runner = mlpackage.evaluator(path, precision)
        batches = read_inputs(mlpackage.input_specs(runner), None, inputs, *words)
        sources, runs = run_all(lambda batch: mlpackage.answers(runner, batch), batches, report)
    for text in mlpackage.warnings(runner):
        warn(text)
    return _finished(dict(zip(mlpackage.numeric_outputs(runner), _joined(runs))), sources, [], output)


def run_all(
    run: Callable[[tuple[Tensor, ...]], Sequence[Tensor]],
    batches: Iterable[tuple[list[str], tuple[Tensor, ...]]],
    report: Report,
) -> tuple[list[str], list[list[Tensor]]]:
    """Names of all samples, and the outputs of each batch without what filled it up."""
    sources: list[str] = []
    runs: list[list[Tensor]] = []
    for names, batch in batches:
        report("run", len(sources), None)
        sources += names
        runs.append([y[: len(names)] if y.dim() else y for y in run(batch)])
    return sources, runs


def _finished(
    joined: dict[str, Tensor], sources: list[str], categories: list[str], output: Path | None
) -> Result:
    if output is not None:
        write_outputs(output, joined)
    return told(joined, sources, categories, output)


def told(
    outputs: dict[str, Tensor], sources: list[str], categories: list[str], written: Path | None
) -> Result:
    """The best classes per sample where an output looks like scores of classes, else a summary of each output."""
    tables: list[str] = []
    document: dict[str, Any] = {}
    for name, tensor in outputs.items():
        document[name] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        if tensor.dim() == 2 and tensor.is_floating_point() and tensor.shape[1] >= 2:
            document[name]["top"] = best = top(tensor, categories)
            tables.append(_classes(name, best[:SHOWN], sources))
            tables += [f"... and {len(best) - SHOWN} more samples"] if len(best) > SHOWN else []
        else:
            document[name] |= summarise(tensor)
            tables.append(f"{name} {shape(tensor.shape)}: " + _numbers(summarise(tensor)))
    if written is not None:
        tables.append(f"written to {written}")
    told_of = {"outputs": document, "written": str(written) if written is not None else None}
    return Result(told_of, "\n".join(tables))


def top(scores: Tensor, categories: list[str]) -> list[list[dict[str, Any]]]:
    """The best classes of each row, best first: index, score and, where known, name."""
    values, indices = scores.topk(min(TOP, scores.shape[1]), dim=1)
    return [
        [
            {"class": i, "score": round(v, 6), **({"name": categories[i]} if i < len(categories) else {})}
            for v, i in zip(row_values, row_indices)
        ]
        for row_values, row_indices in zip(values.tolist(), indices.tolist())
    ]


def summarise(tensor: Tensor) -> dict[str, float]:
    """Smallest, largest and mean value of an output; nothing of an empty one."""
    values = tensor.double()
    if not values.numel():
        return {}
    return {"min": float(values.min()), "max": float(values.max()), "mean": float(values.mean())}


def write_outputs(path: Path, outputs: dict[str, Tensor]) -> None:
    """Write all outputs: one array as ``.npy``, several by name as ``.npz``; complete or not at all.

    Raises:
        ArtifactError: the file cannot be written.
        UsageError: several outputs into an ``.npy``.
    """
    import numpy as np

    if path.suffix == ".npy" and len(outputs) != 1:
        raise UsageError(f"the model has {len(outputs)} outputs, an .npy holds one", fix="-o with .npz")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, next(iter(outputs.values())).numpy())
            else:
                arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in outputs.items()}
                np.savez(file, **arrays)
        part.replace(path)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}", why=error.strerror or str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _check_output(path: Path | None, *, force: bool) -> None:
    if path is None:
        return
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"-o {path}: the suffix says the format", fix="end it in .npy or .npz")
    check_outside_bundles(path)
    if path.exists() and not force:
        raise ArtifactError(f"{path} exists already", fix="--force, or another -o")
    if not path.absolute().parent.is_dir():
        raise ArtifactError(f"cannot write {path}", why=f"there is no folder {path.absolute().parent}")


def _joined(runs: list[list[Tensor]]) -> list[Tensor]:
    import torch

    return [torch.cat(parts) if parts[0].dim() else torch.stack(parts) for parts in zip(*runs)]


def _classes(output: str, best: list[list[dict[str, Any]]], sources: list[str]) -> str:
    named = any("name" in entry for row in best for entry in row)
    rows = [
        (
            sources[i] if not rank else "",
            rank + 1,
            entry["class"],
            f"{entry['score']:.4f}",
            *((entry.get("name", ""),) if named else ()),
        )
        for i, row in enumerate(best)
        for rank, entry in enumerate(row)
    ]
    return columns(rows, ("sample", "rank", "class", output, *(("name",) if named else ())))


def _numbers(facts: dict[str, float]) -> str:
    return ", ".join(f"{word} {value:.4g}" for word, value in facts.items()) or "empty"
