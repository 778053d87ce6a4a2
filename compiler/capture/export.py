"""``torch.export`` with a batch that stays dynamic where the model allows it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sympy
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx._lazy_graph_module import _use_lazy_graph_module

from fxc.compiler.capture.explain import explain
from fxc.compiler.capture.inputs import Example
from fxc.compiler.capture.quick_shapes import quick_shapes
from fxc.compiler.errors import CaptureError
from fxc.compiler.program import Note

_PROBED_BATCHES = (1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 100, 128)
"""Batch sizes at which every condition that the tracer recorded must hold."""


@dataclass(frozen=True)
class Exported:
    """An export and how it came about.

    Attributes:
        program: PyTorch's exported program.
        dynamic: whether the batch is a symbol in it.
        notes: what the report must say.
    """

    program: ExportedProgram
    dynamic: bool
    notes: tuple[Note, ...] = ()


def export_model(model: nn.Module, example: Example, dynamic_batch: bool | None) -> Exported:
    """Export ``model`` in inference mode; its own training flags are as before afterwards.

    Args:
        dynamic_batch: ``True`` demands a dynamic batch, ``False`` a fixed one, ``None`` takes what the model allows.

    Raises:
        CaptureError: with the model's own line.
    """
    with inference(model), _quiet():
        if dynamic_batch is False:
            return export_static(model, example)
        reason = "no input has a batch axis"
        if example.batch() is not None:
            found = _dynamic(model, example)
            if isinstance(found, Exported):
                return found
            reason = found
        if dynamic_batch:
            raise CaptureError(
                f"the batch cannot be dynamic: {reason}",
                why="dynamic_batch=True was asked for",
                fix="leave dynamic_batch out to capture with the example's batch size",
            )
        fixed = "fixed shapes" if example.batch() is None else f"a fixed batch of {example.batch()}"
        text = f"captured with {fixed}: {reason}"
        exported = export_static(model, example)
        return replace(exported, notes=(*exported.notes, Note("warning", text, by="capture")))


def export_static(model: nn.Module, example: Example) -> Exported:
    """Export with the example's own shapes; strict mode is the last resort.

    Raises:
        CaptureError: with the model's own line.
    """
    try:
        return Exported(_export(model, example, None, strict=False), False)
    except Exception as error:  # noqa: BLE001  whatever the model's own code raises while it is traced
        failure = explain(error, model)
    try:
        program = _export(model, example, None, strict=True)
    except Exception:  # noqa: BLE001  the first failure names the model's line, this one names Dynamo's
        raise failure from None
    text = f"captured by strict tracing, because plain tracing failed: {failure.what}"
    return Exported(program, False, (Note("info", text, by="capture"),))


@contextlib.contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """``model`` in inference mode for a while; every module's own flag comes back."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, flag in before:
            module.training = flag


def _dynamic(model: nn.Module, example: Example) -> Exported | str:
    """The export with a dynamic batch, or the reason why there is none."""
    # An axis of size 1 would become the constant 1: trace with 2.
    widened = example.with_batch(max(2, example.batch() or 0))
    shapes = ShapesCollection()
    for tensor in widened.batched():
        shapes[tensor] = {0: Dim.AUTO}
    try:
        with quick_shapes():
            program = _export(model, widened, shapes, strict=False)
    except Exception as error:  # noqa: BLE001  whatever the model's own code raises while it is traced
        failure = explain(error, model)
        return f"{failure.what}{f', at {failure.where}' if failure.where else ''}"
    return _restriction(program) or Exported(program, True)


def _export(
    model: nn.Module, example: Example, shapes: ShapesCollection | None, *, strict: bool
) -> ExportedProgram:
    # Of the Python code that the exporter generates for its graph, several times over, plain tracing runs nothing.
    with _use_lazy_graph_module(not strict):
        return torch.export.export(
            model,
            example.args,
            example.kwargs,
            dynamic_shapes=shapes,
            strict=strict,
            prefer_deferred_runtime_asserts_over_guards=False,
        )


def _restriction(program: ExportedProgram) -> str | None:
    """Why the batch of an export is not free; ``None`` if it is."""
    user = set(program.graph_signature.user_inputs)
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in user]
    tensors = [v for v in values if isinstance(v, FakeTensor)]
    environment = tensors[0].fake_mode.shape_env
    guards = environment.guards if environment is not None else []
    for guard in guards:
        where = _readable(str(guard.sloc))
        if not _holds(guard.expr):
            return f"the model needs {guard.expr} for its batch{where}"
    if not any(isinstance(size, torch.SymInt) for value in tensors for size in value.shape[:1]):
        return "the model turns its batch size into a constant"
    return None


def _holds(expression: Any) -> bool:
    symbols = list(expression.free_symbols)
    for batch in _PROBED_BATCHES:
        value = expression.subs({symbol: sympy.Integer(batch) for symbol in symbols})
        if value not in (True, sympy.true):
            return False
    return True


def _readable(location: str) -> str:
    return f" ({location})" if location and location != "None" else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, log lines and printed graphs from the tracer: a failure is explained, a success needs no words."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def first_value(program: ExportedProgram) -> FakeTensor | None:
    """Any fake tensor of the export's graph: the way to its fake-tensor mode."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value
    return None


def describe(example: Example) -> str:
    """The example's flat inputs in words: dtypes and shapes."""
    words = [
        f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
        if isinstance(leaf, Tensor)
        else repr(leaf)
        for leaf in example.leaves()
    ]
    return ", ".join(words) or "none"
