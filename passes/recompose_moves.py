"""Chains of moves made shorter: copies for layout's sake, and the packing of query, key and value in attention."""

from __future__ import annotations

import math

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule, producer
from fxc.passes.canonical_shape import LAYOUT_RULES
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import fixed, plain_sizes, rank, same_shape, shape

aten = torch.ops.aten


def select_of_permute(node: fx.Node, editor: Editor) -> Spelled:
    """select(permute(x, p), d, i) -> select(x, p[d], i), where p keeps the order of the others"""
    x, dim, index = node.args
    turned = producer(x, aten.permute.default)
    if turned is None:
        return None
    source, order = turned.args
    # Otherwise each piece would need a permute of its own for the one that they share.
    if _without(order, order[dim]) != list(range(rank(node))):
        return None
    return Call(aten.select.int, (source, order[dim], index))


def squeeze_of_permute(node: fx.Node, editor: Editor) -> Spelled:
    """squeeze.dims(permute(unsqueeze(x, u), p), [where u went]) -> permute(x, p without u)"""
    turned = producer(node.args[0], aten.permute.default)
    lifted = producer(turned.args[0], aten.unsqueeze.default) if turned is not None else None
    if turned is None or lifted is None:
        return None
    order, added = turned.args[1], lifted.args[1]
    if list(node.args[1]) != [list(order).index(added)]:
        return None
    return Call(aten.permute.default, (lifted.args[0], _without(order, added)))


def _without(order: list[int], dim: int) -> list[int]:
    """The permutation that is left when ``dim`` of its input is gone."""
    return [d - (d > dim) for d in order if d != dim]


def select_of_split(node: fx.Node, editor: Editor) -> Spelled:
    """select(reshape(x, [n, 3, h, w]), 1, i) -> reshape(slice(x, 1, i * h * w, (i + 1) * h * w), [n, h, w])"""
    split, dim, index = node.args
    split = producer(split, aten.reshape.default)
    sizes = plain_sizes(node)
    if split is None or sizes is None or not isinstance(index, int) or index < 0:
        return None
    source, old, new = split.args[0], shape(split.args[0]), shape(split)
    parts = rank(split) - rank(source) + 1
    inner = [fixed(size) for size in new[dim + 1 : dim + parts]]
    kept = same_shape(old[:dim], new[:dim]) and same_shape(old[dim + 1 :], new[dim + parts :])
    if parts < 2 or len(inner) != parts - 1 or None in inner or not kept:
        return None
    width = math.prod(size for size in inner if size is not None)
    piece = Call(aten.slice.Tensor, (source, dim, index * width, (index + 1) * width, 1))
    if parts == 2:
        return piece
    return Call(aten.reshape.default, (Expand(node, editor)(piece.target, *piece.args), sizes))


RULES: tuple[Rule, ...] = (
    *LAYOUT_RULES,
    Spelling("squeeze_of_permute", (aten.squeeze.dims,), squeeze_of_permute),
    Spelling("select_of_permute", (aten.select.int,), select_of_permute),
    Spelling("select_of_split", (aten.select.int,), select_of_split),
)
