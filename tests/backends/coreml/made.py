"""Core ML programs made without fxc: operator by operator in coremltools' builder, or by ``ct.convert`` of PyTorch models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fxc.backends.coreml.toolchain import coremltools, quiet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One use of one MIL operator.

    Attributes:
        op: MIL's name.
        build: makes the operator out of coremltools' builder and the inputs.
        inputs: arrays that are the program's inputs.
        oracle: NumPy or PyTorch function of the inputs; ``None`` if coremltools infers the value itself.
        ios: oldest iOS that has it.
        inert: parameters that change nothing here, to the reason.
    """

    op: str
    build: Callable[..., Any]
    inputs: tuple[Array, ...]
    oracle: Callable[..., Any] | None = None
    ios: int = 15
    inert: dict[str, str] = field(default_factory=dict)

    def wanted(self) -> list[Array]:
        """What the operator must give."""
        if self.oracle is None:
            return inferred(self)
        found = self.oracle(*self.inputs)
        return [np.asarray(f) for f in (found if isinstance(found, tuple) else (found,))]


def mil_target(ios: int) -> Any:
    return getattr(coremltools().target, f"iOS{ios}")


def build_program(case: Case) -> Any:
    """The MIL program of a case."""
    return _program(case, case.build)


def inferred(case: Case) -> list[Array]:
    """What coremltools itself makes of the case's inputs as constants."""
    found: list[Any] = []

    def body(mb: Any, *variables: Any) -> Any:
        # A copy each: for some operators coremltools computes in place on the array that it was given.
        known = case.build(mb, *(mb.const(val=x.copy()) for x in case.inputs))
        found.extend(known if isinstance(known, (tuple, list)) else (known,))
        return mb.identity(x=variables[0])

    _program(case, body)
    return [np.asarray(variable.val).copy() for variable in found]


def _program(case: Case, build: Callable[..., Any]) -> Any:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    kinds = {"float32": types.fp32, "int32": types.int32, "float16": types.fp16, "bool": types.bool}
    specs = [mb.TensorSpec(shape=x.shape, dtype=kinds[str(x.dtype)]) for x in case.inputs]
    # The builder reads the names of the inputs off the function's signature.
    bodies: dict[int, Callable[..., Any]] = {
        1: lambda x0: build(mb, x0),
        2: lambda x0, x1: build(mb, x0, x1),
        3: lambda x0, x1, x2: build(mb, x0, x1, x2),
    }
    return mb.program(input_specs=specs, opset_version=mil_target(case.ios))(bodies[len(specs)])


def save_program(program: Any, path: Path, ios: int) -> Path:
    ct = coremltools()
    with quiet():
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=mil_target(ios),
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def convert(
    model: torch.nn.Module | Callable[..., Any],
    examples: Sequence[torch.Tensor],
    path: Path,
    *,
    ios: int = 16,
    half: bool = False,
    export: bool = True,
    **options: Any,
) -> Path:
    """``ct.convert`` of a PyTorch model, as a user would call it."""
    ct = coremltools()
    module = model if isinstance(model, torch.nn.Module) else Lambda(model)
    module.eval()
    with quiet(), torch.no_grad():
        source: Any = (
            torch.export.export(module, tuple(examples)).run_decompositions({})
            if export
            else torch.jit.trace(module, tuple(examples))
        )
        if not export:
            options.setdefault(
                "inputs", [ct.TensorType(name=f"x{i}", shape=x.shape) for i, x in enumerate(examples)]
            )
        converted = ct.convert(
            source,
            convert_to="mlprogram",
            minimum_deployment_target=mil_target(ios),
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
            **options,
        )
        converted.save(str(path))
    return path


class Lambda(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)
