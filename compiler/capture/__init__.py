"""Capture: a model becomes a :class:`~fxc.compiler.program.Program`.

``capture`` takes an ``nn.Module``, an FX ``GraphModule``, an ``ExportedProgram`` or the path of a ``.pt2`` file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from fxc.compiler.capture.build import build_program
from fxc.compiler.capture.check import disagreement, is_random, model_outputs
from fxc.compiler.capture.cut import cut_program
from fxc.compiler.capture.export import Exported, export_model
from fxc.compiler.capture.inputs import Example, example_of, exported_example
from fxc.compiler.errors import CaptureError, UsageError
from fxc.compiler.program import Note, Program
from fxc.compiler.serialize import load_program

__all__ = ["capture"]


def capture(
    model: Any,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool | None = None,
    name: str | None = None,
    outputs: Sequence[str] | None = None,
    trust: bool = False,
) -> Program:
    """The model as a program: a functional ATen graph over the model's own parameters, in inference mode.

    The program shares parameters and buffers with the model. The model's training flags are as before afterwards.
    The graph is compared with the model on the example inputs before it is returned.

    Args:
        model: an ``nn.Module``, ``ExportedProgram``, FX ``GraphModule``, path of a ``.pt2`` file, or a program
            or the folder of a saved one.
        example_inputs: positional arguments, one tensor, or a dictionary of keyword arguments. Without them the
            model's ``example_input_array`` is used, else an input guessed from its first layer; a note says which.
        example_kwargs: keyword arguments.
        dynamic_batch: ``True`` demands that the leading axis which the inputs share stays dynamic, ``False`` fixes
            it, ``None`` takes what the model allows and notes it. An exported program keeps its own shapes.
        name: the model's name; its class name by default.
        outputs: layer names, modules or globs at which the program ends; it then returns a tuple.
        trust: load a ``.pt2`` file that may execute code.

    Returns:
        A program whose results that are no tensors (``None``, numbers) are constants, put back by ``unflatten``.

    Raises:
        CaptureError: the model cannot become a graph; the message has the model's own line.
        InputError: example inputs that do not fit an exported program.
        UsageError: an unknown layer in ``outputs``, or something that is not a model.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_program(Path(model)) if Path(model).is_dir() else _loaded(model, trust)
    if isinstance(model, Program):
        program = model
    elif isinstance(model, ExportedProgram):
        program = _from_exported(model, example_inputs, example_kwargs, dynamic_batch)
    else:
        program = _from_module(_checked(model), example_inputs, example_kwargs, dynamic_batch)
    program = replace(program, name=name) if name else program
    return program if outputs is None else cut_program(program, outputs)


def _loaded(path: str | os.PathLike[str], trust: bool) -> ExportedProgram:
    if not os.fspath(path).endswith(".pt2"):
        raise UsageError(
            f"{os.fspath(path)} is not a .pt2 file",
            why="of files, only those that torch.export.save writes hold a whole model",
            fix="pass the nn.Module itself, or save it with torch.export.save",
        )
    from fxc.compiler.capture.pt2 import load

    return load(Path(path), trust=trust)


def _checked(model: Any) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(
            "a TorchScript module cannot be captured",
            why="it holds no Python code that torch.export could follow",
            fix="pass the nn.Module that it was made from",
        )
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"not a model: {type(model).__name__}",
            fix="pass an nn.Module, an ExportedProgram, an fx.GraphModule or the path of a .pt2 file",
        )
    return model


def _from_module(
    model: nn.Module, inputs: Any, kwargs: Mapping[str, Any] | None, dynamic_batch: bool | None
) -> Program:
    example = example_of(model, inputs, kwargs)
    expected = model_outputs(model, example)
    exported = export_model(model, example, dynamic_batch)
    program = _named(build_program(exported.program, one_batch=True), model, example, exported)
    said = _compare(model, program, example, expected, exported.dynamic)
    if said and exported.dynamic:
        if dynamic_batch:
            raise CaptureError(
                f"with a dynamic batch the graph differs from the model: {said}",
                why="the model treats one sample differently from several",
                fix="leave dynamic_batch out to capture with the example's batch size",
            )
        text = (
            f"captured with a fixed batch of {example.batch()}: with a dynamic one the graph differs, {said}"
        )
        exported = export_model(model, example, False)
        program = _named(build_program(exported.program), model, example, exported)
        program = program.note(Note("warning", text, by="capture"))
        said = _compare(model, program, example, expected, False)
    return program if said is None else _judge(model, program, example, said)


def _compare(
    model: nn.Module, program: Program, example: Example, expected: list[Any], dynamic: bool
) -> str | None:
    """The graph against the model; where the batch is dynamic, with another one than it was traced with."""
    batch = example.batch()
    if not dynamic or batch is None or batch == 1:
        return disagreement(program, expected, example)
    other = example.with_batch(1)
    try:
        expected = model_outputs(model, other)
    except CaptureError:  # a batch norm over the batch takes no single sample
        other = example.with_batch(batch + 1)
        expected = model_outputs(model, other)
    return disagreement(program, expected, other)


def _judge(model: nn.Module, program: Program, example: Example, said: str) -> Program:
    """A graph that differs from its model is refused, unless the model draws random numbers."""
    if is_random(model, example):
        text = f"the model draws random numbers; on the example inputs, {said}"
        return program.note(Note("warning", text, by="capture"))
    raise CaptureError(
        f"the captured graph differs from the model: {said}",
        why="the tracer recorded something else than what runs; Python state that changes between calls does that",
        fix="make forward() depend on its arguments, parameters and buffers only",
    )


def _named(program: Program, model: nn.Module, example: Example, exported: Exported) -> Program:
    how = "with a dynamic batch" if exported.dynamic else "with fixed shapes"
    first = Note("info", f"captured by torch.export {how}", by="capture")
    return replace(
        program,
        name=type(model).__name__,
        notes=(first, *example.notes, *exported.notes, *program.notes),
        example_inputs=tuple(t.detach() for t in program.flatten(example.args, example.kwargs)),
    )


def _from_exported(
    exported: ExportedProgram, inputs: Any, kwargs: Mapping[str, Any] | None, dynamic_batch: bool | None
) -> Program:
    program = build_program(exported, to_inference=True)
    if dynamic_batch and not program.dynamic:
        raise CaptureError(
            "the exported program has fixed shapes",
            why="dynamic_batch=True was asked for, and shapes are fixed when a program is exported",
            fix="export with dynamic_shapes, or pass the nn.Module",
        )
    note = Note("info", "captured from an exported program, with its own shapes", by="capture")
    example = exported_example(exported, inputs, kwargs)
    flat = program.flatten(example.args, example.kwargs)
    return replace(program, notes=(note, *program.notes), example_inputs=tuple(t.detach() for t in flat))
