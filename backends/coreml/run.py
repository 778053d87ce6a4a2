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
from fxc.backends.coreml.values import HELD, Constants, Type
from fxc.compiler.backend import Kernel
from fxc.compiler.errors import ArtifactError, InputError, ToolchainError
from fxc.compiler.target import Target

Array = np.ndarray[Any, Any]

PRECISIONS = ("f32", "f16")


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
        self.input_names = tuple(n for n, _ in self.plan.inputs)
        self.output_names = tuple(self.plan.outputs)
        words = "every float16 result rounded" if half else "float32"
        self.describe = f"fxc's evaluator of Core ML programs ({words})"

    @property
    def overflows(self) -> Mapping[str, int]:
        """Names of values that left float16's range since loading, to how many of their numbers; of ``"f16"`` alone."""
        return self._rounding.overflows

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on flat inputs in the model's order, a batch sample by sample; the outputs, then the exposed values.

        Raises:
            InputError: they do not fit the model.
            ArtifactError: the program is wrong in itself.
        """
        answers = [
            [y.numpy() for y in self.values(sample) if isinstance(y, Tensor)]
            for sample in self._samples(inputs)
        ]
        if len(answers) == 1:
            return answers[0]
        if any(y.ndim == 0 for y in answers[0]):
            raise InputError("an output has no batch to be put together of", fix="give one sample at a time")
        return [np.concatenate(parts) for parts in zip(*answers)]

    def _samples(self, inputs: Sequence[Array]) -> list[list[Array]]:
        """The samples of a batch, for a program whose inputs have a leading dimension of 1; else the inputs as they are."""
        single = [_is_single(kind) for _, kind in self.plan.inputs]
        count = max((len(x) for x, one in zip(inputs, single) if one and np.ndim(x)), default=1)
        if count <= 1 or len(inputs) != len(single):
            return [list(inputs)]
        return [
            [x[i : i + 1] if one and len(x) == count else x for x, one in zip(inputs, single)]
            for i in range(count)
        ]

    def values(self, inputs: Sequence[Array]) -> list[Any]:
        """The same, with what is no tensor too: a classifier's label and its scores by class."""
        if len(inputs) != len(self.plan.inputs):
            raise InputError(
                f"{self.package.path.name} takes {len(self.plan.inputs)} inputs ({', '.join(self.input_names)}), got {len(inputs)}"
            )
        tensors = [
            _fitting(self._pixels(x, name), name, kind) for x, (name, kind) in zip(inputs, self.plan.inputs)
        ]
        with torch.inference_mode():
            return self.plan.run(tensors, self._rounding, self._expose)

    def _pixels(self, value: Array, name: str) -> Array:
        """An image's bytes are floats from 0 to 255 to the program."""
        given = np.asarray(value)
        return given.astype(np.float32) if name in self._images and given.dtype == np.uint8 else given

    def kernels(self) -> list[Kernel]:
        """Every operator that multiplies, as the program has it."""
        from fxc.backends.coreml.placement import kernels

        return kernels(self.package.program)


def _is_single(kind: Type) -> bool:
    return bool(kind.shape) and kind.shape is not None and kind.shape[0] == 1


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
