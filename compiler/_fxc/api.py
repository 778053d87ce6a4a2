"""The public functions: capture, lint, calibrate, compile, load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from fxc import words
from fxc.calibration import calibrate_model
from fxc.catalogue import resolve, with_extensions
from fxc.comparison import compare_reports
from fxc.compiler.artifact import Artifact
from fxc.compiler.artifacts import Artifacts, has_index
from fxc.compiler.backend import Violation
from fxc.compiler.capture import capture as _capture
from fxc.compiler.config import QuantConfig
from fxc.compiler.extension import Extension
from fxc.compiler.program import Program
from fxc.driver import compile_targets, violations
from fxc.passes.prune.plan import Plan
from fxc.passes.quantize.statistics import Statistics
from fxc.pruning import prune_word
from fxc.request import Request
from fxc.stages import Progress, Stages

Extensions = Iterable[Extension] | Extension


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
        outputs=words.names("outputs", outputs) or None,
        name=name,
        trust=trust,
    )


@overload
def compile(model: Any, target: str, **options: Any) -> Artifact: ...


@overload
def compile(model: Any, target: Sequence[str], **options: Any) -> Artifacts: ...


# The signatures above leave the options to this one.
def compile(  # type: ignore[misc]
    model: Any,
    target: str | Sequence[str],
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    calibration_data: Iterable[Any] | Statistics | None = None,
    quantization: QuantConfig | Mapping[str, Any] | None = None,
    keep_float: Sequence[str] = (),
    observer: str | None = None,
    percentile: float | None = None,
    layers: Mapping[str, Any] | None = None,
    equalize: bool | None = None,
    bias_correction: str | None = None,
    prune: float | Mapping[str, Any] | Plan | str | Path | None = None,
    outputs: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    name: str | None = None,
    dump: str | Path | None = None,
    verify: bool = True,
    skip: Sequence[str] = (),
    trust: bool = False,
    progress: Progress | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    image_input: str | None = None,
    jetpack: str | None = None,
    tensorrt: str | None = None,
    ios: str | None = None,
    ane: bool = False,
    batches: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    about: Mapping[str, str] | None = None,
    extensions: Extensions = (),
) -> Artifact | Artifacts:
    """Compile a model for a target, or for several, and prove the result on this host.

    Args:
        model: an ``nn.Module``, an ``ExportedProgram``, a ``GraphModule``, a :class:`Program` or a ``.pt2`` path.
        target: ``"<device>-<precision>"``; ``fxc.targets()`` lists them. A list of targets is compiled from one capture
            and one calibration.
        example_inputs, example_kwargs, dynamic_batch, outputs, name, trust: as in :func:`capture`.
        calibration_data: batches (a tensor, a tuple of positional or a dict of keyword arguments each), iterated once;
            or the :class:`Statistics` that :func:`calibrate` made of them. Without it an int8 target calibrates on
            images synthesised from the model's batch norms, and says so.
        quantization: a :class:`QuantConfig` or the same as plain data; the next six arguments add to it.
        keep_float: layer patterns that stay in float.
        observer: ``minmax``, ``moving_average``, ``percentile``, ``mse`` or ``entropy`` for every activation, or ``auto``:
            for each tensor the one that serves its readers best, by measurement.
        percentile: for ``observer="percentile"``.
        layers: pattern to overrides, ``{"head.*": {"observer": "mse"}}``.
        equalize: even out channels whose ranges differ, where eight bits gain by it (on by default).
        bias_correction: ``analytic`` (the default) or ``empirical``: what quantization moves the mean of a layer's output
            by is taken out of its bias; or ``none``.
        prune: remove channels first: a ratio, the words of :func:`fxc.prune` as a mapping, or a plan (or its file). Nothing
            is trained between; to fine-tune, call :func:`fxc.prune` and compile what it gives.
        dump: folder for a step-by-step picture of every pass.
        verify: check each pass's promise about numbers on the example inputs.
        skip: names of optimization passes to leave out.
        progress: called as ``progress(stage, done, total)``.
        preprocessing: recorded in the manifest (mean, std, size, layout), not applied but for ``image_input``.
        image_input: ``"rgb"``, ``"bgr"`` or ``"gray"``: the compiled model takes uint8 images ``[N, C, H, W]`` in this order of
            channels and normalises them itself, by ``preprocessing``'s ``mean`` and ``std`` (of values from 0 to 1, in the
            model's order). The model is written for RGB. Calibration data may be either: normalised floats as the
            model takes them, or uint8 images as the result does.
        jetpack, tensorrt, ios: version of the device's software, ``"6.2"``, ``"10.3"``, ``"17"``: narrows the bundle to it.
            Of several targets, those that know the word are narrowed; so it is with the next four words.
        ane: write a Core ML model as the Neural Engine likes it, where that changes no number.
        batches: sizes of the batch that a Core ML model takes: ``"1,4,8"``, or ``"1..8"`` for all between; the first is
            the usual one. Without it the batch is 1.
        labels: names of a Core ML classifier's classes, or a text file with one per line. Its outputs are then the
            likeliest class and the scores by class, as coremltools' classifiers have them.
        about: ``author``, ``license``, ``description`` and ``version`` of a Core ML model.
        extensions: operators, rewrites and targets of other packages, beside those of installed ones.

    Returns:
        An :class:`Artifact`: call it, read its ``report``, ``save`` it. For a list of targets, :class:`Artifacts`: a
        mapping from target to artifact, with one ``report`` over all.

    Raises:
        FxcError: one of the tree in :mod:`fxc.compiler.errors`; nothing half-written stays.
    """
    catalogue = with_extensions(extensions)
    given = words.device(labels, about, ane, jetpack=jetpack, tensorrt=tensorrt, ios=ios, batches=batches)
    chosen = words.narrowed(catalogue, words.targets(catalogue, target), given)
    request = Request(
        target=chosen[0],
        config=words.quantization(
            quantization,
            layers,
            keep_float=keep_float,
            observer=observer,
            percentile=percentile,
            equalize=equalize,
            bias_correction=bias_correction,
        ),
        example_inputs=example_inputs,
        example_kwargs=example_kwargs,
        calibration_data=calibration_data,
        outputs=words.names("outputs", outputs) or None,
        dynamic_batch=dynamic_batch,
        name=name,
        dump=Path(dump) if dump is not None else None,
        verify=verify,
        skip=words.names("skip", skip),
        trust=trust,
        preprocessing=words.preprocessing(preprocessing, image_input),
        image_input=words.image_input(image_input, preprocessing),
        catalogue=catalogue,
        prune=prune_word(prune, chosen, catalogue),
    )
    artifacts = compile_targets(model, request, chosen, Stages(progress))
    if isinstance(target, str):
        return artifacts[0]
    report = compare_reports({a.target.name: a.report for a in artifacts})
    return Artifacts(artifacts, report, resolve("fxc.tools.report:render_comparison")(report))


def calibrate(
    model: Any,
    data: Iterable[Any],
    *,
    targets: Sequence[str] | None = None,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    equalize: bool | None = None,
    skip: Sequence[str] = (),
    trust: bool = False,
    progress: Progress | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    image_input: str | None = None,
    extensions: Extensions = (),
) -> Statistics:
    """Run calibration data through a model once, and keep what every target and every observer may ask of it.

    The result stands for the data in :func:`compile`; ``save`` it, ``fxc.Statistics.load`` it, and merge that of
    several runs (``one.merged(other)``).

    Args:
        model, example_inputs, example_kwargs, outputs, dynamic_batch, equalize, skip, trust, image_input, extensions: as
            in :func:`compile`; what is compiled later must be given the same.
        preprocessing: as in :func:`compile`; kept with the statistics.
        data: batches, as ``calibration_data`` of :func:`compile`.
        targets: targets that will be compiled for; all integer targets by default.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        CaptureError: the model cannot be captured.
        CalibrationError: no data, wrong shape or dtype, values that are not finite.
    """
    catalogue = with_extensions(extensions)
    chosen = (
        words.targets(catalogue, targets)
        if targets is not None
        else tuple(t for t in catalogue.targets() if t.quantized)
    )
    request = Request(
        target=chosen[0],
        config=QuantConfig(equalize=equalize),
        example_inputs=example_inputs,
        example_kwargs=example_kwargs,
        calibration_data=data,
        outputs=words.names("outputs", outputs) or None,
        dynamic_batch=dynamic_batch,
        skip=words.names("skip", skip),
        trust=trust,
        preprocessing=words.preprocessing(preprocessing, image_input),
        image_input=words.image_input(image_input, preprocessing),
        catalogue=catalogue,
    )
    return calibrate_model(model, request, chosen, Stages(progress))


def lint(
    model: Any,
    target: str,
    *,
    example_inputs: tuple[Any, ...] | Any | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    outputs: Sequence[str] | None = None,
    dynamic_batch: bool | None = None,
    trust: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    image_input: str | None = None,
    jetpack: str | None = None,
    tensorrt: str | None = None,
    ios: str | None = None,
    ane: bool = False,
    batches: str | None = None,
    extensions: Extensions = (),
) -> list[Violation]:
    """What of ``model`` the target cannot take, without building anything; the arguments are those of :func:`compile`.

    Raises:
        CaptureError: the model cannot be captured.
        UsageError: an unknown target or version.
    """
    catalogue = with_extensions(extensions)
    given = words.device(ane=ane, jetpack=jetpack, tensorrt=tensorrt, ios=ios, batches=batches)
    (narrowed,) = words.narrowed(catalogue, (catalogue.target(target),), given)
    request = Request(
        target=narrowed,
        example_inputs=example_inputs,
        example_kwargs=example_kwargs,
        outputs=words.names("outputs", outputs) or None,
        dynamic_batch=dynamic_batch,
        trust=trust,
        image_input=words.image_input(image_input, preprocessing),
        catalogue=catalogue,
    )
    return violations(model, request, Stages(None))


def load(path: str | Path, *, extensions: Extensions = ()) -> Artifact | Artifacts:
    """Open a bundle that :meth:`Artifact.save` wrote, or several that :meth:`Artifacts.save` wrote.

    Runs no code from it and checks every hash.

    Args:
        path: the folder.
        extensions: needed where the target or an operator is not fxc's own, nor an installed package's.

    Raises:
        ArtifactError: missing, truncated, tampered with, or of a newer format.
    """
    catalogue = with_extensions(extensions)
    kind = Artifacts if has_index(Path(path)) else Artifact
    return kind.load(Path(path), host=catalogue)
