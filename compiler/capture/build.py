"""From an exported program to a :class:`Program`: the steps of a capture after the tracer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from fxc.compiler.capture.batchnorm import set_to_inference, unify_batch_norm
from fxc.compiler.capture.constants import evaluate_constants
from fxc.compiler.capture.explain import FIXED_SHAPES
from fxc.compiler.capture.export import first_value
from fxc.compiler.capture.functional import NeedsDecomposition, drop_dead, make_functional
from fxc.compiler.capture.lift import Lifted, lift
from fxc.compiler.capture.names import named, source_line
from fxc.compiler.capture.schema import normalise, written
from fxc.compiler.capture.specs import specs_of
from fxc.compiler.errors import CaptureError
from fxc.compiler.origin import op_name
from fxc.compiler.program import Note, Program, graph_module_of


def build_program(
    exported: ExportedProgram, *, one_batch: bool = False, to_inference: bool = False
) -> Program:
    """The program of an export, without example inputs.

    Args:
        one_batch: the leading axes of the inputs are one dynamic batch.
        to_inference: switch batch norms and dropouts that were exported in training mode.

    Raises:
        CaptureError: a graph that keeps state, or holds what a program cannot.
    """
    notes: tuple[Note, ...] = ()
    try:
        lifted, found = _functional(exported, to_inference)
    except NeedsDecomposition as reason:
        text = f"made functional by PyTorch, which splits some operators: {reason}"
        notes = (Note("info", text, by="capture"),)
        lifted, found = _functional(_decomposed(exported, reason), to_inference)
    graph = named(lifted.graph)
    inputs, outputs = specs_of(lifted, graph, one_batch=one_batch)
    return Program(
        graph_module_of(lifted.tensors, graph),
        inputs,
        outputs,
        lifted.in_spec,
        lifted.out_spec,
        notes=(*notes, *found),
        frozen_outputs=lifted.frozen_outputs,
    )


def _decomposed(exported: ExportedProgram, reason: NeedsDecomposition) -> ExportedProgram:
    try:
        return exported.run_decompositions({})
    except Exception as error:
        raise CaptureError(
            f"a write in place could not be made functional: {reason}",
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="write out of place: x = x + y instead of x += y",
        ) from error


def _functional(exported: ExportedProgram, to_inference: bool) -> tuple[Lifted, tuple[Note, ...]]:
    """The lifted graph with normalised arguments, constants computed and no writes left."""
    lifted = lift(exported)
    mode = _mode_of(exported)
    for node in lifted.graph.nodes:
        normalise(node)
    unify_batch_norm(lifted.graph)
    notes = set_to_inference(lifted.graph) if to_inference else ()
    evaluate_constants(lifted, mode)
    changed = make_functional(lifted.graph, mode)
    drop_dead(lifted.graph)
    _refuse_unknown_sizes(lifted.graph)
    return lifted, (*notes, *_state_notes(lifted, changed))


def _refuse_unknown_sizes(graph: fx.Graph) -> None:
    for node in graph.nodes:
        value = node.meta.get("val")
        sizes = value.shape if isinstance(value, Tensor) else (value,)
        if any(isinstance(size, torch.SymInt) and free_unbacked_symbols(size) for size in sizes):
            raise CaptureError(
                f"the shape of {op_name(node)}'s result depends on the values of the input",
                where=source_line(node.meta.get("stack_trace") or ""),
                why="a chip needs shapes that are known before it runs",
                fix=FIXED_SHAPES,
            )


def _mode_of(exported: ExportedProgram) -> FakeTensorMode | None:
    value = first_value(exported)
    return None if value is None else value.fake_mode


def _state_notes(lifted: Lifted, changed: set[fx.Node]) -> Iterator[Note]:
    alive = set(lifted.graph.nodes)
    for node in sorted(changed, key=lambda n: n.name):
        if node.op == "placeholder":
            text = f"the model overwrites its input {node.name}; the program leaves it as it is"
            yield Note("info", text, by="capture")
        elif node in alive:
            raise CaptureError(
                f"the model changes its own {node.target} while it runs, and its outputs depend on it",
                why="a program keeps no state between calls",
                fix="pass the state in and return its new value, or freeze it before capture",
            )
        else:
            text = f"the model updates {node.target}, which no output depends on; the program does not"
            yield Note("info", text, by="capture")
    for node in lifted.graph.nodes:
        if written(node):
            raise CaptureError(
                f"{node.target} writes in place and could not be made functional",
                where=source_line(node.meta.get("stack_trace") or ""),
                fix="write out of place: x = x + y instead of x += y",
            )
