"""Batch-norm statistics measured again, after channels that they were measured with have gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.errors import CalibrationError
from fxc.compiler.execute import steps
from fxc.compiler.program import Program
from fxc.passes.quantize.batches import batches

aten = torch.ops.aten
_MEAN, _VAR = 3, 4


def recompute_batch_norm(program: Program, data: Iterable[Any]) -> Program:
    """The program with each batch norm's mean and variance averaged over ``data``; all else, training mode too, stays.

    Args:
        program: left as it is; parameters are shared with it.
        data: batches as for calibration. Its batch norms see them one after the other, each normalized by its own batch.

    Raises:
        CalibrationError: data that does not fit the program, or none.
    """
    editor = Editor(program, "recompute_batch_norm")
    norms = [n for n in editor.graph.nodes if n.target is aten.batch_norm.default and _tracked(n)]
    if not norms:
        return program
    for statistic in {n.args[place] for n in norms for place in (_MEAN, _VAR)}:
        editor.set_tensor(statistic, editor.tensor(statistic).detach().clone())
    renewed = editor.finish()
    if not isinstance(data, Iterable):
        raise CalibrationError(
            f"batch-norm data takes batches of inputs, got {type(data).__name__}", fix="a list or a loader"
        )
    if not _measure(renewed, batches(program, data)):
        raise CalibrationError("there is no data to measure the batch norms on", fix="at least one batch")
    return renewed


def _tracked(node: fx.Node) -> bool:
    return all(isinstance(node.args[place], fx.Node) for place in (_MEAN, _VAR))


def _measure(program: Program, data: Iterable[tuple[Tensor, ...]]) -> int:
    """Write the averages into the program's own statistics; how many batches there were."""
    norms = [n for n in program.graph.nodes if n.target is aten.batch_norm.default and _tracked(n)]
    count = 0
    for flat in data:
        count += 1
        calls = dict.fromkeys(norms, _learning(1.0 / count))
        for _ in steps(program, flat, calls):
            pass
    return count


def _learning(momentum: float) -> Callable[..., Tensor]:
    """``batch_norm`` that normalizes by the batch and moves the averages by ``momentum``."""

    def call(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> Tensor:
        if x.numel() // x.shape[1] < 2:  # a single value has no variance
            return aten.batch_norm.default(x, weight, bias, mean, var, *rest)
        return aten.batch_norm.default(x, weight, bias, mean, var, True, momentum, *rest[2:])

    return call
