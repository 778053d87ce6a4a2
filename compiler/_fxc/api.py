"""The public functions: capture, lint, compile, load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fxc import catalogue
from fxc.compiler.artifact import Artifact
from fxc.compiler.backend import Violation
from fxc.compiler.capture import capture as _capture
from fxc.compiler.config import LayerConfig, QuantConfig
from fxc.compiler.errors import UsageError
from fxc.compiler.program import Program
from fxc.driver import Request, compile_request, violations
from fxc.stages import Progress, Stages


def capture(
    model: Any,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool | None = None,
    outputs: Sequence[str] | None = None,
    name: str | None = None,
    trust: bool = False,
) -> Program:
    """Capture a model as a :class:`Program`.

    Args:
        model: an ``nn.Module``, an ``ExportedProgram``, a ``GraphModule`` or the path of a ``.pt2`` archive.
        example_inputs: positional example arguments; without them ``model.example_input_array``, else an image batch
            guessed from the first convolution.
        example_kwargs: keyword example arguments.
        dynamic_batch: ``True`` demands a dynamic leading axis, ``False`` a static one, ``None`` takes what the model allows.
        outputs: layer names (shell patterns) at which to cut the graph; their values become the outputs.
        name: of the program; the class name by default.
        trust: load a ``.pt2`` that the scan refuses. It can run code.

    Raises:
        CaptureError: the model cannot be captured; the message names its own line.
    """
    return _capture(
        model,
        example_inputs,
        example_kwargs,
        dynamic_batch=dynamic_batch,
        outputs=_names("outputs", outputs) or None,
        name=name,
        trust=trust,
    )


def compile(  # the name is the point: fxc.compile
    model: Any,
    target: str,
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    calibration_data: Iterable[Any] | None = None,
    quantization: QuantConfig | Mapping[str, Any] | None = None,
    keep_float: Sequence[str] = (),
    observer: str | None = None,
    percentile: float | None = None,
    layers: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    name: str | None = None,
    dump: str | Path | None = None,
    verify: bool = True,
    skip: Sequence[str] = (),
    trust: bool = False,
    progress: Progress | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> Artifact:
    """Compile a model for a target, and prove the result on this host.

    Args:
        model: an ``nn.Module``, an ``ExportedProgram``, a ``GraphModule``, a :class:`Program` or a ``.pt2`` path.
        target: ``"<device>-<precision>"``; ``fxc.targets()`` lists them.
        example_inputs, example_kwargs, dynamic_batch, outputs, name, trust: as in :func:`capture`.
        calibration_data: batches (a tensor, a tuple of positional or a dict of keyword arguments each), iterated once.
            Without it an int8 target calibrates on images synthesised from the model's batch norms, and says so.
        quantization: a :class:`QuantConfig` or the same as plain data; the next four arguments add to it.
        keep_float: layer patterns that stay in float.
        observer: ``minmax``, ``moving_average``, ``percentile``, ``mse`` or ``entropy``, for every activation.
        percentile: for ``observer="percentile"``.
        layers: pattern to overrides, ``{"head.*": {"observer": "mse"}}``.
        dump: folder for a step-by-step picture of every pass.
        verify: check each pass's promise about numbers on the example inputs.
        skip: names of optimization passes to leave out.
        progress: called as ``progress(stage, done, total)``.
        preprocessing: recorded in the manifest (mean, std, size, layout), not applied.

    Returns:
        An :class:`Artifact`: call it, read its ``report``, ``save`` it.

    Raises:
        FxcError: one of the tree in :mod:`fxc.compiler.errors`; nothing half-written stays.
    """
    request = Request(
        target=catalogue.target(target),
        config=_config(quantization, keep_float, observer, percentile, layers),
        example_inputs=example_inputs,
        example_kwargs=example_kwargs,
        calibration_data=calibration_data,
        outputs=_names("outputs", outputs) or None,
        dynamic_batch=dynamic_batch,
        name=name,
        dump=Path(dump) if dump is not None else None,
        verify=verify,
        skip=_names("skip", skip),
        trust=trust,
        preprocessing=dict(preprocessing or {}),
    )
    return compile_request(model, request, Stages(progress))


def lint(
    model: Any,
    target: str,
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    trust: bool = False,
) -> list[Violation]:
    """What of ``model`` the target cannot take, without building anything; the arguments are those of :func:`compile`.

    Raises:
        CaptureError: the model cannot be captured.
    """
    request = Request(
        target=catalogue.target(target),
        example_inputs=example_inputs,
        example_kwargs=example_kwargs,
        outputs=_names("outputs", outputs) or None,
        dynamic_batch=dynamic_batch,
        trust=trust,
    )
    return violations(model, request, Stages(None))


def load(path: str | Path) -> Artifact:
    """Open a bundle that :meth:`Artifact.save` wrote. Runs no code from it and checks every hash.

    Raises:
        ArtifactError: missing, truncated, tampered with, or of a newer format.
    """
    return Artifact.load(Path(path), open_runner=open_runner)


def open_runner(model: Path, target: str, **options: Any) -> Any:
    """Run an emitted file on this host, with the runtime of its target's room."""
    found = catalogue.target(target)
    return catalogue.room(found).load(model, found, **options)


def _names(word: str, names: Sequence[str] | None) -> tuple[str, ...]:
    """``names`` as a tuple; one name alone is a list of one.

    Raises:
        UsageError: something else than names.
    """
    if names is None or isinstance(names, str):
        return (names,) if names else ()
    if not isinstance(names, Iterable) or not all(isinstance(n, str) for n in names):
        raise UsageError(f"{word} takes a list of names, got {names!r}", fix=f'{word}=["…"]')
    return tuple(names)


def _config(
    base: QuantConfig | Mapping[str, Any] | None,
    keep_float: Sequence[str],
    observer: str | None,
    percentile: float | None,
    layers: Mapping[str, Any] | None,
) -> QuantConfig:
    if isinstance(base, Mapping):
        base = QuantConfig.parse(base)
    if layers is not None and not isinstance(layers, Mapping):
        raise UsageError(
            f"layers takes a mapping from pattern to overrides, got {type(layers).__name__}",
            fix='layers={"head.*": {"observer": "mse"}}',
        )
    plain = {k: v if not isinstance(v, LayerConfig) else vars(v) for k, v in (layers or {}).items()}
    words = {"keep_float": keep_float, "observer": observer, "percentile": percentile, "layers": plain}
    if base is not None and not isinstance(base, QuantConfig):
        raise UsageError(f"quantization takes a QuantConfig or a mapping, got {type(base).__name__}")
    return (base or QuantConfig()).merged(QuantConfig.parse(words))
