"""Batch norm in one form, ``aten.batch_norm.default``, that uses its running statistics."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxc.compiler.capture.names import source_line
from fxc.compiler.errors import CaptureError
from fxc.compiler.program import Note

_aten = torch.ops.aten
_DROPOUTS = (_aten.dropout.default, _aten.alpha_dropout.default, _aten.feature_dropout.default)


@dataclass(frozen=True)
class _Norm:
    """Arguments that every spelling has: input, weight, bias, running mean and variance, training, momentum, eps."""

    args: tuple[Any, ...]


def _with_flag(a: tuple[Any, ...]) -> _Norm:
    return _Norm(a[:8])


def _without_flag(a: tuple[Any, ...]) -> _Norm:
    return _Norm((*a[:5], False, *a[5:7]))


def _without_statistics(a: tuple[Any, ...]) -> _Norm:
    return _Norm((*a[:3], None, None, *a[3:6]))


def _updating(a: tuple[Any, ...]) -> _Norm:
    return _Norm((*a[:5], True, *a[5:7]))


_SPELLINGS: dict[Any, Callable[[tuple[Any, ...]], _Norm]] = {
    _aten.native_batch_norm.default: _with_flag,
    _aten._native_batch_norm_legit.default: _with_flag,
    _aten._native_batch_norm_legit_functional.default: _with_flag,
    _aten.cudnn_batch_norm.default: _with_flag,
    _aten._native_batch_norm_legit.no_stats: _without_statistics,
    _aten._native_batch_norm_legit_no_training.default: _without_flag,
    _aten._batch_norm_no_update.default: _without_flag,
    _aten._batch_norm_with_update.default: _updating,
    _aten._batch_norm_with_update_functional.default: _updating,
}


def unify_batch_norm(graph: fx.Graph) -> None:
    """Rewrite every spelling of batch norm; normalised arguments are expected.

    ``native_batch_norm(x, w, b, mean, var, training, m, eps)[0] -> batch_norm(x, w, b, mean, var, training, m, eps, False)``

    Raises:
        CaptureError: the graph reads the statistics that a batch norm computed.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _SPELLINGS:
            _rewrite(graph, node, _SPELLINGS[node.target](node.args).args)


def _rewrite(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...]) -> None:
    with graph.inserting_before(node):
        new = graph.call_function(_aten.batch_norm.default, (*args, False))
    new.meta = {**node.meta, "val": node.meta["val"][0]} if "val" in node.meta else dict(node.meta)
    for user in list(node.users):
        if user.target is operator.getitem and user.args[1] == 0:
            user.replace_all_uses_with(new)
        elif user.users:
            raise CaptureError(
                "the model reads the statistics that a batch norm computes",
                where=source_line(user.meta.get("stack_trace") or ""),
                why="a program's batch norm has one result",
                fix="compute mean and variance with torch.var_mean instead",
            )
        graph.erase_node(user)
    graph.erase_node(node)


def set_to_inference(graph: fx.Graph) -> tuple[Note, ...]:
    """Switch batch norms that have running statistics, and dropouts, from training to inference."""
    switched = 0
    for node in graph.nodes:
        has_statistics = node.target is _aten.batch_norm.default and node.args[3] is not None
        if has_statistics and node.args[5]:
            node.update_arg(5, False)
            switched += 1
        elif node.target in _DROPOUTS and node.args[2]:
            node.update_arg(2, False)
            switched += 1
    if not switched:
        return ()
    text = (
        f"the model was exported in training mode: {switched} batch norm and dropout layers set to inference"
    )
    return (Note("warning", text, by="capture"),)
