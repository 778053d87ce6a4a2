"""A program as an ``.mlpackage``, written by coremltools' own converter."""

from __future__ import annotations

import gc
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fxc.backends.apple.export import exported
from fxc.backends.coreml.compress import candidates
from fxc.backends.coreml.image import image_inputs
from fxc.backends.coreml.package import SUFFIX, open_package
from fxc.backends.coreml.placement import placed
from fxc.backends.coreml.run import load
from fxc.backends.coreml.settle import settle
from fxc.backends.coreml.signature import batches_of, input_types, labels_of
from fxc.backends.coreml.spelling import STYLE
from fxc.backends.coreml.toolchain import PACKAGE, coremltools, quiet
from fxc.backends.coreml.versions import Batches
from fxc.compiler.backend import Emitted
from fxc.compiler.errors import LegalityError, ToolchainError
from fxc.compiler.extension import EMPTY, Functions
from fxc.compiler.origin import identifier, label_of
from fxc.compiler.program import Program
from fxc.compiler.target import Target

MODEL = "model.mlpackage"
_FIXED = "the batch is {} in the file: the Neural Engine wants fixed shapes"
_SCORES = "the classifier's scores are the model's own: probabilities only if it ends in a softmax"
_FREE = "the batch is {} in the file; where it is not fixed the Neural Engine may not be used"


def emit(program: Program, target: Target, directory: Path, *, lowerings: Functions = EMPTY) -> Emitted:
    """Write ``model.mlpackage``; a dynamic batch is 1 in it, or what the target's ``batches`` say.

    Inputs and outputs have the model's names and dtypes (integers of 64 bits become 32), values those of its layers.
    The same program gives the same bytes.

    Args:
        lowerings: not used: the converter's own are.

    Raises:
        LegalityError: the converter has no form for an operator; the model has no batch, or no scores, where the target
            says so.
        ToolchainError: coremltools is not installed.
    """
    ct, batches = coremltools(), batches_of(program, target)
    program, images = image_inputs(program)
    labels = labels_of(program, target)
    with tempfile.TemporaryDirectory(prefix="fxc-coreml-") as scratch:
        saved, said = _saved(
            _converted(ct, program, target, batches, images, labels), program, target, Path(scratch)
        )
        shutil.copytree(saved, directory / MODEL)
    files = sorted(p.relative_to(directory).as_posix() for p in (directory / MODEL).rglob("*") if p.is_file())
    spec = open_package(directory / MODEL).spec
    return Emitted(
        model=MODEL,
        files=tuple(files),
        inputs=tuple(i.name for i in spec.description.input),
        outputs=tuple(o.name for o in spec.description.output if o.type.WhichOneof("Type") != "stringType"),
        tools={PACKAGE: ct.__version__},
        tensors=_tensors(program, spec),
        notes=(
            *_batch_said(program, target, batches),
            *((_SCORES,) if labels else ()),
            *said,
            *(f"input {name} is an image, {order.upper()}" for name, order in images.items()),
            *_placement(program, target, spec),
        ),
    )


def _saved(model: Any, program: Program, target: Target, scratch: Path) -> tuple[Path, tuple[str, ...]]:
    """The model as a package, in the way of compressing its weights that errs least; and what to say of that."""
    ways = candidates(target, model)
    if not ways:
        return _package(model, program, target, scratch / MODEL), ()
    with quiet(), _settled_memory():
        made = {
            way: _package(make(), program, target, scratch / f"{i}{SUFFIX}")
            for i, (way, make) in enumerate(ways.items())
        }
    if len(made) == 1:
        return next(iter(made.values())), (f"weights: {next(iter(made))}",)
    errors = {way: _error(path, program) for way, path in made.items()}
    best = min(errors, key=errors.__getitem__)
    told = "; ".join(f"{way}: {error:.2%}" for way, error in errors.items())
    return made[best], (f"weights: {best}; relative error on the example inputs: {told}",)


def _package(model: Any, program: Program, target: Target, path: Path) -> Path:
    model.save(str(path))
    settle(path, program, json.loads(target.options.get("about", "{}")))
    return path


def _error(path: Path, program: Program) -> float:
    """Relative error of a package's outputs on the program's example inputs."""
    found = load(path)([x.numpy() for x in program.example_inputs])
    wanted = program.run_flat(*program.example_inputs)
    apart = sum(float((torch.from_numpy(f) - w).double().square().sum()) for f, w in zip(found, wanted))
    return float((apart / sum(float(w.double().square().sum()) for w in wanted)) ** 0.5)


def _batch_said(program: Program, target: Target, batches: Batches) -> tuple[str, ...]:
    if not program.dynamic:
        return ()
    return (
        (_FREE if len(batches.sizes) > 1 else _FIXED).format(target.options.get("batches", batches.usual)),
    )


def _converted(
    ct: Any,
    program: Program,
    target: Target,
    batches: Batches,
    images: Mapping[str, str],
    labels: list[str],
) -> Any:
    half = target.precision != "fp32"
    with quiet(), _settled_memory():
        try:
            return ct.convert(
                exported(program, STYLE, batch=None if len(batches.sizes) > 1 else batches.usual),
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, f"iOS{target.options['ios']}"),
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                inputs=input_types(ct, program, batches, images),
                outputs=_outputs(ct, program),
                classifier_config=ct.ClassifierConfig(labels) if labels else None,
                skip_model_load=True,
            )
        except NotImplementedError as error:
            raise LegalityError(
                f"{PACKAGE} cannot convert the model",
                why=str(error).splitlines()[0],
                fix="fxc lint names the layer",
            ) from error
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise ToolchainError(f"{PACKAGE} failed to convert the model", why=why) from error


def _outputs(ct: Any, program: Program) -> list[Any]:
    """The model's names; floats stay float32 also where the program computes in float16."""
    kinds = {"float32": np.float32, "float16": np.float16}
    return [
        ct.TensorType(name=identifier(o.name), **({"dtype": kinds[o.dtype]} if o.dtype in kinds else {}))
        for o in program.outputs
    ]


@contextmanager
def _settled_memory() -> Iterator[None]:
    """The converter collects garbage between its passes, and would look through all of PyTorch each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _placement(program: Program, target: Target, spec: Any) -> Iterator[str]:
    """What of the quantized graph survived coremltools' passes, read off the saved program."""
    if not target.quantized:
        return
    labels = {name: label for label, name in _tensors(program, spec).items()}
    found = placed(spec.mlProgram, ("conv", "conv_transpose", "linear", "add"))
    yield f"{sum(not p.why for p in found)} of {len(found)} convolutions, linear layers and sums stand between dequantize and quantize"
    for place in found:
        if place.why:
            yield f"{labels.get(place.name, place.name)} ({place.op}) does not: {place.why}"


def _tensors(program: Program, spec: Any) -> dict[str, str]:
    function = spec.mlProgram.functions["main"]
    names = {o.name for op in function.block_specializations[function.opset].operations for o in op.outputs}
    nodes = (n for n in program.graph.nodes if n.op == "call_function")
    return {label_of(n): n.name for n in nodes if n.name in names}
