"""A failed export, told with the model's own line and what to change."""

from __future__ import annotations

import linecache
import os
import sysconfig
import traceback
from types import FrameType

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from fxc.compiler.errors import CaptureError

_FOREIGN = (
    os.path.dirname(os.path.abspath(torch.__file__)) + os.sep,
    sysconfig.get_paths()["stdlib"] + os.sep + "contextlib.py",
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
)
FIXED_SHAPES = (
    "replace nonzero, unique and boolean indexing by torch.where or topk, or do that step outside the model"
)
"""What to change about a shape that depends on values."""

_DATA_DEPENDENT = "Could not guard on data-dependent expression"


def explain(error: BaseException, model: nn.Module) -> CaptureError:
    """The ``CaptureError`` for an exception that escaped from ``torch.export``."""
    what, why, fix = _reason(error)
    return CaptureError(what, where=_place(error, model), why=why, fix=fix)


def explain_call(error: BaseException, model: nn.Module, inputs: str) -> CaptureError:
    """The ``CaptureError`` for a model that does not run on its example inputs, ``inputs`` in words."""
    return CaptureError(
        f"the model does not run on the example inputs: {type(error).__name__}: {_first_line(error)}",
        where=_place(error, model),
        why=f"inputs: {inputs}",
        fix="pass example_inputs (and example_kwargs) that the model accepts",
    )


def _reason(error: BaseException) -> tuple[str, str, str]:
    text = str(error)
    chain = _chain(error)
    if any(isinstance(e, UnsupportedOperatorException) for e in chain):
        failed = next(e for e in chain if isinstance(e, UnsupportedOperatorException)).args[0]
        op = str(failed).split("\n", 1)[0].strip()
        return (
            f"operator {op} cannot be traced",
            "it has no implementation for tensors without data",
            "register one with torch.library.register_fake, or replace the operator",
        )
    if any(isinstance(e, DynamicOutputShapeException) for e in chain):
        return (
            "the shape of an intermediate tensor depends on the values of the input",
            "a chip needs shapes that are known before it runs",
            FIXED_SHAPES,
        )
    if any(isinstance(e, (GuardOnDataDependentSymNode, DataDependentOutputException)) for e in chain) or (
        _DATA_DEPENDENT in text
    ):
        return (
            "data-dependent control flow: the model decides by the value of a tensor",
            "a graph has no branches; which one to take is not known before the input is",
            "compute both sides and select with torch.where, or decide outside the model",
        )
    if ".numpy()" in text or "TracerArrayConversion" in text:
        return (
            "the model leaves PyTorch: it converts a tensor to NumPy",
            "operations outside PyTorch cannot be recorded",
            "use the torch function instead of the NumPy one",
        )
    return (
        f"torch.export could not capture the model: {type(error).__name__}: {_first_line(error)}",
        "the model must be traceable with fixed Python control flow",
        "rewrite the line above with plain PyTorch operators",
    )


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _place(error: BaseException, model: nn.Module) -> str | None:
    """``layer (file.py:12  code)`` of the innermost frame of the model's own code."""
    names = {id(module): path for path, module in model.named_modules()}
    for link in reversed(_chain(error)):
        frames = [(f, line) for f, line in traceback.walk_tb(link.__traceback__) if _is_models(f)]
        if frames:
            frame, line = frames[-1]
            file = frame.f_code.co_filename
            text = f"{os.path.basename(file)}:{line}  {linecache.getline(file, line).strip()}".rstrip()
            layer = names.get(id(frame.f_locals.get("self")))
            return f"{layer} ({text})" if layer else text
    return None


def _is_models(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not file.startswith(_FOREIGN) and not file.startswith("<")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
