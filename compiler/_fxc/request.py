"""What a user may ask of one compile, and what is refused before long work starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fxc.catalogue import INSTALLED, Catalogue
from fxc.compiler.backend import Violation
from fxc.compiler.capture import capture
from fxc.compiler.config import QuantConfig
from fxc.compiler.errors import LegalityError, UsageError
from fxc.compiler.passbase import Pass
from fxc.compiler.program import Note, Program
from fxc.compiler.serialize import load_program
from fxc.compiler.target import Target
from fxc.passes.extension import ExtensionRules
from fxc.passes.image_input import ImageInput
from fxc.passes.pipelines import simplify
from fxc.passes.prune.pruned import Pruned
from fxc.passes.quantize.statistics import Statistics


@dataclass(frozen=True)
class Request:
    """Everything a user may ask of one compile; the words are those of :func:`fxc.compile`.

    ``calibration_data`` may also be :class:`Statistics`; ``catalogue`` holds the user's extensions;
    ``prune`` is the pass that removes channels, if any shall go.
    """

    target: Target
    config: QuantConfig = field(default_factory=QuantConfig)
    example_inputs: Any = None
    example_kwargs: Mapping[str, Any] | None = None
    calibration_data: Iterable[Any] | Statistics | None = None
    outputs: tuple[str, ...] | None = None
    dynamic_batch: bool | None = None
    name: str | None = None
    dump: Path | None = None
    verify: bool = True
    skip: tuple[str, ...] = ()
    trust: bool = False
    preprocessing: dict[str, Any] = field(default_factory=dict)
    image_input: ImageInput | None = None
    catalogue: Catalogue = INSTALLED
    prune: Pass | None = None


def check_skip(skip: tuple[str, ...]) -> None:
    """Every name must be that of a pass that can be left out.

    Raises:
        UsageError: with the nearest names.
    """
    known = sorted({p.name for p in (*simplify(), ExtensionRules())})
    for name in skip:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"skip: there is no pass {name!r} to leave out", fix=f"{hint}known: {', '.join(known)}"
            )


def captured(model: Any, request: Request) -> Program:
    """The model as a program.

    Raises:
        CaptureError: the model cannot be captured.
        UsageError: it is a program that is quantized already, or was captured in another way.
    """
    if isinstance(model, Pruned):
        model = model.program
    if isinstance(model, (str, Path)) and Path(model).is_dir():
        model = load_program(model, operators=request.catalogue.operators)
    if isinstance(model, Program):
        model = _with_examples(model, request)
    return capture(
        model,
        request.example_inputs,
        request.example_kwargs,
        dynamic_batch=request.dynamic_batch,
        outputs=request.outputs,
        name=request.name,
        trust=request.trust,
    )


def _with_examples(program: Program, request: Request) -> Program:
    if "quantized" in program.facts:
        raise UsageError(f"{program.name} is quantized already", fix="compile the float program or the model")
    if request.dynamic_batch is not None and request.dynamic_batch != program.dynamic:
        raise UsageError(
            f"{program.name} was captured with a {'dynamic' if program.dynamic else 'fixed'} batch",
            fix="give dynamic_batch to fxc.capture",
        )
    given = request.example_inputs
    if given is None and not request.example_kwargs:
        return program
    args = (given,) if isinstance(given, Tensor) else tuple(given or ())
    return replace(program, example_inputs=program.flatten(args, request.example_kwargs))


def left_out(catalogue: Catalogue) -> tuple[Note, ...]:
    """For the report: installed extensions that cannot be used."""
    return tuple(Note("warning", text, by="extensions") for text in catalogue.broken)


def refuse(violations: list[Violation], target: Target) -> None:
    """Raise if any violation is fatal.

    Raises:
        LegalityError: naming the first one's layer, source line, rule and way out, and how many more there are.
    """
    fatal = [v for v in violations if v.fatal]
    if fatal:
        first = fatal[0]
        more = f" (and {len(fatal) - 1} more; fxc lint lists them)" if len(fatal) > 1 else ""
        raise LegalityError(
            f"{target.name} cannot take layer {first.layer}{more}",
            where=f"{first.layer} ({first.source})" if first.source else first.layer,
            why=first.rule,
            fix=first.fix,
        )
