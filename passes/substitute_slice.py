"""A concat that is taken apart again behind it: its pieces never needed one tensor, nor one scale."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import fixed, plain_sizes, rank, same_shape, shape

aten = torch.ops.aten


def slice_of_cat(node: fx.Node, editor: Editor) -> Spelled:
    """slice(cat([a, b], d), d, <where b lies>) -> b;  slice(cat([a, b], e), d) -> cat([slice(a, d), slice(b, d)], e);
    slice(reshape(x), d) -> reshape(slice(x, d)), where the reshape keeps every dimension up to d"""
    source, step = node.args[0], node.args[4]
    if not isinstance(source, fx.Node) or step != 1 or not _only_sliced(source):
        return None
    if source.target is aten.cat.default:
        return _of_cat(node, editor)
    if source.target is aten.reshape.default and _holds_cat(source):
        return _of_reshape(node, editor)
    return None


def _of_cat(node: fx.Node, editor: Editor) -> Spelled:
    source, dim, start, end, _ = node.args
    pieces, along = source.args[0], source.args[1] % rank(source)
    if along != dim:
        op = Expand(node, editor)
        return Call(aten.cat.default, ([op(aten.slice.Tensor, x, dim, start, end, 1) for x in pieces], along))
    edge = 0
    for piece in pieces:
        size = fixed(shape(piece)[dim])
        if size is None:
            return None
        if (edge, edge + size) == (start, end):
            return piece
        edge += size
    return None


def _of_reshape(node: fx.Node, editor: Editor) -> Spelled:
    source, dim, start, end, _ = node.args
    x, sizes = source.args[0], plain_sizes(node)
    kept = dim + 1
    if sizes is None or rank(x) < kept or not same_shape(shape(x)[:kept], shape(source)[:kept]):
        return None
    part = Expand(node, editor)(aten.slice.Tensor, x, dim, start, end, 1)
    return Call(aten.reshape.default, (part, sizes))


def _only_sliced(source: fx.Node) -> bool:
    """Whether nothing needs the whole of it."""
    return all(
        (user.target is aten.slice.Tensor and user.args[0] is source) or _is_left_over(user)
        for user in source.users
    )


def _is_left_over(node: fx.Node) -> bool:
    """A concat, or a reshape in front of one, whose slices are read elsewhere by now."""
    return node.target in (aten.cat.default, aten.reshape.default) and all(map(_is_left_over, node.users))


def _holds_cat(source: fx.Node) -> bool:
    """Whether a concat lies in front of the reshapes: only then is there something to gain."""
    node: Any = source
    while isinstance(node, fx.Node) and node.target is aten.reshape.default:
        node = node.args[0]
    return isinstance(node, fx.Node) and node.target is aten.cat.default


RULES: tuple[Rule, ...] = (Spelling("slice_of_cat", (aten.slice.Tensor,), slice_of_cat),)
