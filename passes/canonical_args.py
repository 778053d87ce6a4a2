"""Arguments in one form: what the operator's schema says, written out."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.passes.values import is_tensor, rank

aten = torch.ops.aten

_DIMS = ("dim", "dims", "dim0", "dim1", "start_dim", "end_dim")
_COUNTS = (aten.tile.default,)
"""Operators whose ``dims`` are no dimensions but how often each is repeated."""
_ONE_MORE = (aten.unsqueeze.default, aten.stack.default)
_STRIDE_IS_KERNEL = (
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
    aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default,
    aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default,
)  # fmt: skip


def normalize_args(editor: Editor) -> None:
    """Write every operator's arguments by its schema.

    Positional arguments stand in schema order with their defaults filled in; keyword-only ones are left out where they
    equal their default; an int where ``int[2]`` is meant becomes a list of two; an int for a float becomes a float;
    a negative dimension is counted from the front; an empty pooling stride is the kernel size.
    """
    for node in editor.graph.nodes:
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            args, kwargs = _normal(node)
            if not _identical((args, kwargs), (node.args, node.kwargs)):
                editor.retarget(node, node.target, args, kwargs)


def _normal(node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    given = dict(node.kwargs)
    for i, parameter in enumerate(_parameters(node.target)):
        name, default, kwarg_only = parameter.name, parameter.default, parameter.kwarg_only
        value = node.args[i] if i < len(node.args) else given.get(name, default)
        value = parameter.convert(value)
        if name in _DIMS and node.target not in _COUNTS:
            value = _from_front(node, value)
        if not kwarg_only:
            args.append(value)
        elif not _identical(value, default):
            kwargs[name] = value
    if node.target in _STRIDE_IS_KERNEL and not args[2]:
        args[2] = args[1]
    return tuple(args), kwargs


class _Parameter:
    """One argument of a schema, ready to convert values."""

    def __init__(self, argument: Any):
        self.name: str = argument.name
        self.kwarg_only: bool = argument.kwarg_only
        inner = argument.type.getElementType() if argument.type.kind() == "OptionalType" else argument.type
        self._list_of = argument.N or 0 if inner.kind() == "ListType" else 0
        self._float = inner.kind() == "FloatType"
        self.default: Any = self.convert(argument.default_value)

    def convert(self, value: Any) -> Any:
        """``value`` in the schema's own type."""
        if self._float and type(value) is int:
            return float(value)
        if self._list_of and isinstance(value, (int, fx.Node)):
            return [value] * self._list_of
        if self._list_of > 1 and isinstance(value, (list, tuple)) and len(value) == 1:
            return list(value) * self._list_of
        return value


@cache
def _parameters(target: Any) -> tuple[_Parameter, ...]:
    return tuple(map(_Parameter, target._schema.arguments))


def _from_front(node: fx.Node, dims: Any) -> Any:
    first = node.args[0] if node.args else None
    tensor = first[0] if isinstance(first, (list, tuple)) and first else first
    if dims is None or not is_tensor(tensor):
        return dims
    count = rank(tensor) + (node.target in _ONE_MORE)
    return [d % count for d in dims] if isinstance(dims, (list, tuple)) and count else _one(dims, count)


def _one(dim: Any, count: int) -> Any:
    return dim % count if isinstance(dim, int) and count else dim


def _identical(a: Any, b: Any) -> bool:
    # 1, 1.0 and True are equal in Python and are different arguments.
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_identical, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_identical(a[k], b[k]) for k in a)
    return type(a) is type(b) and bool(a == b)
