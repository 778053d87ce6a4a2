"""What an operator's schema says: which arguments it writes, which its results alias, what its defaults are."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

_aten = torch.ops.aten

HIDDEN_ALIASES: tuple[Any, ...] = (
    _aten.dropout.default,
    _aten.alpha_dropout.default,
    _aten.feature_dropout.default,
    _aten.feature_alpha_dropout.default,
    _aten.type_as.default,
    _aten.pad.default,
    _aten.broadcast_tensors.default,
)
"""Operators that may return (views of) their input although the schema does not say so."""

SOMETIMES_ALIASES: tuple[Any, ...] = (
    *HIDDEN_ALIASES,
    _aten.contiguous.default,
    _aten.reshape.default,
    _aten.reshape_as.default,
    _aten.flatten.using_ints,
    _aten.to.dtype,
    _aten.to.dtype_layout,
    _aten.to.device,
    _aten.to.other,
)
"""Operators that return a view of their input or a copy of it, as memory layout and dtype allow."""


def overload(node: fx.Node) -> OpOverload | None:
    """The ATen (or custom) operator that a node calls, if it calls one."""
    return node.target if node.op == "call_function" and isinstance(node.target, OpOverload) else None


def argument(node: fx.Node, position: int) -> Any:
    """The argument at a schema position, given by place or by name; the default if it is left out."""
    op = overload(node)
    if position < len(node.args):
        return node.args[position]
    if op is None:
        return None
    wanted = op._schema.arguments[position]
    return node.kwargs.get(wanted.name, wanted.default_value)


def written(node: fx.Node) -> list[fx.Node]:
    """The nodes whose values this node overwrites, list arguments flattened; metadata changes do not count."""
    op = overload(node)
    if op is None or not op._schema.is_mutable or torch.Tag.inplace_view in op.tags:
        return []
    places = [i for i, arg in enumerate(op._schema.arguments) if arg.alias_info and arg.alias_info.is_write]
    return _nodes([argument(node, i) for i in places])


def aliased(node: fx.Node) -> list[fx.Node]:
    """The nodes whose memory a result of this node may share."""
    op = overload(node)
    if op is None:
        return []
    if op in HIDDEN_ALIASES:
        return _nodes([node.args[0]])
    if not any(ret.alias_info for ret in op._schema.returns):
        return []
    return _nodes([argument(node, i) for i, arg in enumerate(op._schema.arguments) if arg.alias_info])


def normalise(node: fx.Node) -> None:
    """Give a node's arguments by place, defaults filled in; keyword-only ones stay by name unless they are default."""
    op = overload(node)
    if op is None:
        return
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for place, arg in enumerate(op._schema.arguments):
        if arg.kwarg_only:
            value = node.kwargs.get(arg.name, arg.default_value)
            if arg.name in node.kwargs and not (arg.has_default_value() and value == arg.default_value):
                kwargs[arg.name] = value
        elif place < len(node.args):
            args.append(node.args[place])
        else:
            args.append(node.kwargs.get(arg.name, arg.default_value))
    node.args, node.kwargs = tuple(args), kwargs


def _nodes(values: Any) -> list[fx.Node]:
    found: list[fx.Node] = []
    for value in values:
        if isinstance(value, fx.Node):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(v for v in value if isinstance(v, fx.Node))
    return found
