"""A Core ML package where a command takes a bundle: any mlprogram, also one that fxc did not make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxc.compiler.errors import InputError, UsageError
from fxc.tools.cli.output import columns, facts, size

if TYPE_CHECKING:
    from torch import Tensor

    from fxc.backends.coreml.run import Evaluator
    from fxc.compiler.program import InputSpec

SUFFIX = ".mlpackage"
FLOORS = {"float32": 60.0, "float16": 30.0, "codes": 10.0}
"""Decibels that a program keeps at least, by the coarsest numbers in it: of sound ones, the worst random nets."""


def is_package(path: Path) -> bool:
    """Whether a path names a Core ML package rather than a bundle."""
    return path.suffix == SUFFIX


def evaluator(path: Path, precision: str | None = None) -> Evaluator:
    """The package, ready to run.

    Raises:
        ArtifactError: it cannot be read.
        ToolchainError: coremltools is missing, or the program has an operator that is not known.
    """
    from fxc.backends.coreml.run import load

    return load(path, precision=precision)


def input_specs(runner: Evaluator) -> tuple[InputSpec, ...]:
    """The inputs of a package as those of a program; a size that is free is called by its place."""
    from fxc.compiler.program import InputSpec

    return tuple(
        InputSpec(
            name,
            tuple(f"d{i}" if d is None else d for i, d in enumerate(kind.shape or ())),
            _plain(kind.dtype),
        )
        for name, kind in runner.plan.inputs
    )


def _plain(dtype: str) -> str:
    return "float32" if dtype == "float16" else dtype


def answers(runner: Evaluator, batch: Sequence[Tensor]) -> list[Tensor]:
    """What the program gives; a classifier's label and its scores by class as numbers in their order.

    Raises:
        UsageError: an output is neither a tensor nor scores by class.
    """
    import torch

    found = []
    for name, value in zip(runner.output_names, runner.values([x.numpy() for x in batch])):
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict):
            found.append(torch.tensor([list(value.values())]))
        elif not isinstance(value, str):
            raise UsageError(f"output {name} is a {type(value).__name__}")
    return found


def numeric_outputs(runner: Evaluator) -> list[str]:
    """Names of the outputs that :func:`answers` gives."""
    return [n for n in runner.output_names if str(runner.plan.types[n].dtype) != "string"]


def warnings(runner: Evaluator) -> Iterator[str]:
    """What left float16's range."""
    for name, count in runner.overflows.items():
        yield f"{count} numbers of {name} left float16's range"


def floor(runner: Evaluator) -> float:
    """The decibels that the program must keep against its float model."""
    kinds = {kind for kind, _ in runner.plan.operators}
    if "quantize" in kinds or any(k.startswith("constexpr_") for k in kinds):
        return FLOORS["codes"]
    halves = any(t.dtype == "float16" for t in runner.plan.types.values())
    return FLOORS["float16" if halves else "float32"]


def example(runner: Evaluator) -> tuple[Tensor, ...]:
    """Seeded normal numbers in the shapes of the inputs, with 1 for what is free.

    Raises:
        InputError: an input of integers: nothing says what would be sensible.
    """
    import torch

    chance = torch.Generator().manual_seed(0)
    found = []
    for spec in input_specs(runner):
        if spec.dtype != "float32":
            raise InputError(f"input {spec.name} is {spec.dtype}", fix="fxc run with an input of yours")
        found.append(torch.randn([d if isinstance(d, int) else 1 for d in spec.shape], generator=chance))
    return tuple(found)


def described(path: Path) -> tuple[dict[str, Any], str]:
    """What is inside a package, as data and as text: operators, precisions, sizes, what is in eight bits."""
    from fxc.backends.coreml.placement import placed

    runner = evaluator(path)
    spec, plan = runner.package.spec, runner.plan
    operators = Counter(kind for kind, _ in plan.operators)
    precisions = Counter(plan.types[name].dtype for _, name in plan.operators if name in plan.types)
    sizes = {f.relative_to(path).as_posix(): f.stat().st_size for f in sorted(path.rglob("*")) if f.is_file()}
    codes = {k: placed(spec.mlProgram, (k,)) for k in ("conv", "conv_transpose", "linear", "matmul", "add")}
    document = {
        "path": str(path),
        "specification": spec.specificationVersion,
        "opset": spec.mlProgram.functions["main"].opset if "main" in spec.mlProgram.functions else None,
        "inputs": {name: str(kind) for name, kind in plan.inputs},
        "shapes": {name: str(s) for name, s in runner.shapes.items() if s.flexible},
        "labels": list(runner.labels),
        "outputs": {name: str(plan.types[name]) for name in plan.outputs},
        "operators": dict(operators.most_common()),
        "precisions": dict(precisions.most_common()),
        "eight_bits": {k: {"of": len(p), "in": sum(not q.why for q in p)} for k, p in codes.items() if p},
        "bytes": sizes,
        "about": _about(spec.description.metadata),
    }
    return document, _text(path, document)


def _classes(labels: list[str]) -> list[tuple[str, str]]:
    told = labels if len(labels) < 5 else [*labels[:3], "…", labels[-1]]
    return [("classes", f"{len(labels)}: {', '.join(told)}")]


def _about(metadata: Any) -> dict[str, str]:
    named = {
        "description": metadata.shortDescription,
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
    }
    return {**{word: text for word, text in named.items() if text}, **metadata.userDefined}


def _text(path: Path, document: dict[str, Any]) -> str:
    words = [
        *(("input", f"{name}: {kind}") for name, kind in document["inputs"].items()),
        *(("shapes", f"{name}: {shapes}") for name, shapes in document["shapes"].items()),
        *(("output", f"{name}: {kind}") for name, kind in document["outputs"].items()),
        *(_classes(document["labels"]) if document["labels"] else ()),
        *document["about"].items(),
        ("operators", f"set {document['opset']}, specification {document['specification']}"),
        ("results", ", ".join(f"{count} {dtype}" for dtype, count in document["precisions"].items())),
        *(
            ("eight bits", f"{n['in']} of {n['of']} {kind}")
            for kind, n in document["eight_bits"].items()
            if n["in"]
        ),
    ]
    table = columns(list(document["operators"].items()), ("operator", "uses"))
    files = columns([(name, size(count)) for name, count in document["bytes"].items()], ("file", "size"))
    return "\n\n".join((f"{path.name}\n{facts(words)}", table, files))
