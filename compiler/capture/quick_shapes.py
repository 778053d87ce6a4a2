"""Shapes of common operators while ``torch.export`` traces, without the detour over their decompositions.

Where a size is a symbol, PyTorch finds the shape of a batch norm or an activation by tracing its reference
implementation: some ten operators with symbolic sizes each, half of the time that a small network's export takes. The
answer is known beforehand: the shape of the first argument. PyTorch keeps a table of such short cuts for ``add`` and
its like; for the time of an export it has ours too. Arguments for which the answer is not plain go the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table, meta_table
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensorMode

from fxc.compiler.fakes import fresh, is_plain

aten = torch.ops.aten

_NORM = aten._native_batch_norm_legit_no_training.default
_SAME = (
    aten.elu.default,
    aten.hardsigmoid.default,
    aten.hardswish.default,
    aten.hardtanh.default,
    aten.leaky_relu.default,
    aten.mish.default,
    aten.relu.default,
    aten.relu6.default,
)
"""Activations: of one floating-point tensor, with the same shape and type."""
_IN_PLACE = (
    aten.elu_.default,
    aten.hardsigmoid_.default,
    aten.hardswish_.default,
    aten.hardtanh_.default,
    aten.leaky_relu_.default,
    aten.mish_.default,
    aten.silu_.default,
)

_Rule = Callable[..., Any]
"""From the fake-tensor mode and the operator's arguments to its fake result; ``None`` where that is not plain."""


@contextmanager
def quick_shapes() -> Iterator[None]:
    """Inside, fake tensors with symbolic sizes pass the operators of this module quickly.

    Without effect where this version of PyTorch has no such table.
    """
    table = _table()
    if table is None:
        yield
        return
    before = dict(table)
    for operator, rule in _rules().items():
        # Only what would be decomposed: an operator with a shape function of its own keeps that.
        if operator not in before and operator in decomposition_table and operator not in meta_table:
            table[operator] = _or_decomposed(rule, decomposition_table[operator])
    try:
        yield
    finally:
        table.clear()
        table.update(before)


def _table() -> dict[Any, Any] | None:
    fill = getattr(fake_impls, "get_fast_op_impls", None)
    return None if fill is None else fill()


def _rules() -> dict[Any, _Rule]:
    same: dict[Any, _Rule] = dict.fromkeys(_SAME, _like_first)
    return same | dict.fromkeys(_IN_PLACE, _first) | {_NORM: _norm}


def _or_decomposed(rule: _Rule, decomposition: Callable[..., Any]) -> _Rule:
    def fake(mode: FakeTensorMode, *args: Any, **kwargs: Any) -> Any:
        result = rule(mode, *args, **kwargs)
        if result is not None:
            return result
        with mode:
            return decomposition(*args, **kwargs)

    return fake


def _like_first(mode: FakeTensorMode, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor | None:
    return fresh(mode, x.shape, x.dtype) if _plain(x) else None


def _first(_mode: FakeTensorMode, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor | None:
    return x if _plain(x) else None


def _norm(
    mode: FakeTensorMode, x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, *_args: Any
) -> tuple[Tensor, Tensor, Tensor] | None:
    per_channel = [t for t in (weight, bias, mean, var) if t is not None]
    if not _plain(x) or x.dim() < 2 or any(t.shape != x.shape[1:2] for t in per_channel):
        return None
    # On the CPU the saved statistics are empty outside training.
    return fresh(mode, x.shape, x.dtype), fresh(mode, (0,), x.dtype), fresh(mode, (0,), x.dtype)


def _plain(x: Tensor) -> bool:
    """Whether an activation of ``x`` surely is a contiguous tensor of its shape and type; of integers it is not."""
    return x.is_floating_point() and is_plain(x)
