"""Execute a saved ``.mlpackage`` on this host: the specification and its weight file, operator by operator, in PyTorch.

Nothing of Core ML runs here. Each operator is written after the MIL operator reference, and accumulates in float32; with
``precision="f16"`` every result that the program calls float16 is rounded to it, as a device stores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxc.backends.coreml.mil.plan import Plan, plan
from fxc.backends.coreml.mil.rounding import Rounding
from fxc.backends.coreml.package import Package, open_package
from fxc.backends.coreml.shapes import Shapes, parts, shapes_of
from fxc.backends.coreml.values import HELD, Constants, Type
from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, InputError, ToolchainError
from fxc.compiler.target import Target

Array = np.ndarray[Any, Any]

PRECISIONS = ("f32", "f16")
_MOST_FILLED = 65


def load(
    model: Path,
    target: Target | None = None,
    *,
    precision: str | None = None,
    threads: int | None = None,
    expose: Sequence[str] = (),
) -> Evaluator:
    """Load an ``.mlpackage``, also one that fxc did not make.

    Args:
        target: not read; every mlprogram says itself what it is.
        precision: ``"f32"`` or ``None``: results stay float32; ``"f16"``: those of type float16 are rounded to it.
        threads: PyTorch's own number is used.
        expose: names of further values of the program to return after the outputs.

    Raises:
        ToolchainError: coremltools is not installed, the program has an operator that is not known here, or the
            precision is.
        ArtifactError: there is no such model, it is damaged or no mlprogram, or has no value of a name in ``expose``.
    """
    if precision not in (None, *PRECISIONS):
        raise ToolchainError(
            f"the evaluator has no precision {precision!r}", fix=f"one of {', '.join(PRECISIONS)}"
        )
    return Evaluator(open_package(model), half=precision == "f16", expose=tuple(expose))


class Evaluator:
    """A Core ML program, ready to execute in PyTorch.

    Attributes:
        describe: what runs it, in words.
        package: what was read.
        input_names, output_names: of the model, in its own order.
        shapes: what an input takes, where the model says so.
        labels: of a classifier, in the order of its scores.
    """

    def __init__(self, package: Package, *, half: bool = False, expose: tuple[str, ...] = ()):
        self.package, self._expose = package, expose
        self._rounding = Rounding(half)
        functions = package.program.functions
        name = package.spec.description.defaultFunctionName or "main"
        if name not in functions:
            raise ArtifactError(
                f"{package.path} has no function {name!r}", why=f"it has {', '.join(functions) or 'none'}"
            )
        with torch.inference_mode():
            self.plan: Plan = plan(functions[name], Constants(package.folder), self._rounding, expose)
        missing = [n for n in expose if n not in self.plan.slot]
        if missing:
            raise ArtifactError(f"{package.path} has no value {missing[0]!r}")
        self._images = {
            i.name for i in package.spec.description.input if i.type.WhichOneof("Type") == "imageType"
        }
        described = {i.name: shapes_of(i) for i in package.spec.description.input}
        self.shapes: dict[str, Shapes] = {n: s for n, s in described.items() if s is not None}
        self.input_names = tuple(n for n, _ in self.plan.inputs)
        self.output_names = tuple(self.plan.outputs)
        words = "every float16 result rounded" if half else "float32"
        self.describe = f"fxc's evaluator of Core ML programs ({words})"

    @property
    def overflows(self) -> Mapping[str, int]:
        """Names of values that left float16's range since loading, to how many of their numbers; of ``"f16"`` alone."""
        return self._rounding.overflows

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the model's order; the outputs, then the exposed values.

        A batch that the model does not take is put together of those that it does, or filled up to the next. Of a classifier's outputs, the label is
        left out, and the scores by class are ``[1, classes]`` in the order of :attr:`labels`.

        Raises:
            InputError: they do not fit the model.
            ArtifactError: the program is wrong in itself.
        """
        samples = self._samples(inputs)
        answers = [
            [_array(y) for y in self.values(sample) if isinstance(y, (Tensor, dict))] for sample in samples
        ]
        if len(answers) == 1:
            return [_cut(y, inputs, samples[0]) for y in answers[0]]
        if any(y.ndim == 0 for y in answers[0]):
            raise InputError("an output has no batch to be put together of", fix="give one sample at a time")
        return [np.concatenate(parts) for parts in zip(*answers)]

    def _samples(self, inputs: Sequence[Array]) -> list[list[Array]]:
        """A batch in parts that the program takes, where its inputs' leading dimension is 1 or free; else the inputs as they are."""
        leads = [_leads(kind) for _, kind in self.plan.inputs]
        count = max((len(x) for x, lead in zip(inputs, leads) if lead and np.ndim(x)), default=1)
        shared = [bool(lead and np.ndim(x) and len(x) == count) for x, lead in zip(inputs, leads)]
        if count < 1 or len(inputs) != len(leads) or not any(shared):
            return [list(inputs)]
        sizes = parts(count, lambda n: all(self._takes(i, n, inputs[i]) for i, s in enumerate(shared) if s))
        if sizes is None:
            return [self._filled(inputs, shared, count)]
        ends = np.cumsum(sizes)
        return [[x[end - n : end] if s else x for x, s in zip(inputs, shared)] for n, end in zip(sizes, ends)]

    def _filled(self, inputs: Sequence[Array], shared: Sequence[bool], count: int) -> list[Array]:
        """The last sample again and again, up to a batch that the program takes; unchanged where it takes no larger one."""
        for n in range(count + 1, count + _MOST_FILLED):
            if all(self._takes(i, n, inputs[i]) for i, s in enumerate(shared) if s):
                return [
                    np.concatenate([x, *[x[-1:]] * (n - count)]) if s else x for x, s in zip(inputs, shared)
                ]
        return list(inputs)

    def _takes(self, place: int, count: int, value: Array) -> bool:
        """Whether an input takes that many of the samples."""
        name, kind = self.plan.inputs[place]
        if kind.shape is not None and kind.shape[0] == 1:
            return count == 1
        known = self.shapes.get(name)
        return known is None or known.admit((count, *value.shape[1:]))

    def values(self, inputs: Sequence[Array]) -> list[Any]:
        """The same, with what is no tensor too: a classifier's label and its scores by class."""
        if len(inputs) != len(self.plan.inputs):
            raise InputError(
                f"{self.package.path.name} takes {len(self.plan.inputs)} inputs ({', '.join(self.input_names)}), got {len(inputs)}"
            )
        tensors = [
            _fitting(self._pixels(x, name), name, kind) for x, (name, kind) in zip(inputs, self.plan.inputs)
        ]
        for name, tensor in zip(self.input_names, tensors):
            known = self.shapes.get(name)
            if known is not None and known.flexible and not known.admit(tensor.shape):
                raise InputError(f"input {name} has shape {list(tensor.shape)}, and takes {known}")
        with torch.inference_mode():
            return self.plan.run(tensors, self._rounding, self._expose)

    def _pixels(self, value: Array, name: str) -> Array:
        """An image's bytes are floats from 0 to 255 to the program."""
        given = np.asarray(value)
        return given.astype(np.float32) if name in self._images and given.dtype == np.uint8 else given

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of a classifier; none of another model."""
        found = [s.settings.get("classes", ()) for s in self.plan.block.steps if s.op.name == "classify"]
        return tuple(map(str, found[0])) if found else ()

    def kernels(self) -> list[Kernel]:
        """Every operator that multiplies, as the program has it."""
        from fxc.backends.coreml.placement import kernels

        return kernels(self.package.program)


def _leads(kind: Type) -> bool:
    return bool(kind.shape) and kind.shape is not None and kind.shape[0] in (1, None)


def _cut(answer: Array, given: Sequence[Array], filled: Sequence[Array]) -> Array:
    """Without what a batch was filled up with."""
    for x, f in zip(given, filled):
        if np.ndim(x) and len(x) < len(f) and answer.ndim and len(answer) == len(f):
            return answer[: len(x)]
    return answer


def _array(value: Any) -> Array:
    if isinstance(value, dict):
        return np.asarray([list(value.values())], np.float32)
    return np.asarray(value.numpy())


def _fitting(value: Array, name: str, kind: Type) -> Tensor:
    wanted = HELD.get(kind.dtype)
    if wanted is None or kind.shape is None:
        raise InputError(f"input {name} is of type {kind}, which cannot be given here")
    given = np.asarray(value)
    if given.ndim != len(kind.shape) or any(w not in (None, h) for w, h in zip(kind.shape, given.shape)):
        raise InputError(f"input {name} has shape {list(given.shape)}, expected {kind}")
    if (given.dtype.kind == "f") is not wanted.is_floating_point:
        raise InputError(f"input {name} has dtype {given.dtype}, expected {kind.dtype}")
    return torch.from_numpy(np.ascontiguousarray(given)).to(wanted)
