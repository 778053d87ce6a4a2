"""Normalisation, attention and pooling in terms of simpler operators."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import dtype, fixed, is_constant, plain_sizes, rank, shape

aten = torch.ops.aten


def layer_norm(node: fx.Node, editor: Editor) -> Spelled:
    """layer_norm(x, …, w, b, eps) -> d / sqrt(mean(d * d) + eps) * w + b, with d = x - mean(x)"""
    x, normalized, weight, bias, eps, _cudnn = node.args
    op, dims = Expand(node, editor), [rank(x) - len(normalized) + i for i in range(len(normalized))]
    centred = op(aten.sub.Tensor, x, op(aten.mean.dim, x, dims, True))
    variance = op(aten.mean.dim, op(aten.mul.Tensor, centred, centred), dims, True)
    deviation = op(aten.sqrt.default, op(aten.add.Scalar, variance, eps, 1))
    return _affine(Call(aten.div.Tensor, (centred, deviation)), weight, bias, op)


def _affine(call: Call, weight: Any, bias: Any, op: Expand) -> Call:
    if weight is not None:
        call = Call(aten.mul.Tensor, (op(call.target, *call.args), weight))
    if bias is not None:
        call = Call(aten.add.Tensor, (op(call.target, *call.args), bias))
    return call


def group_norm(node: fx.Node, editor: Editor) -> Spelled:
    """group_norm(x, g, w, b, eps) -> reshape(layer_norm(reshape(x, [n, g, rest])), x.shape) * w + b"""
    x, groups, weight, bias, eps, _cudnn = node.args
    sizes, rest = plain_sizes(x), [fixed(size) for size in shape(x)[1:]]
    if sizes is None or None in rest:
        return None
    op, width = Expand(node, editor), math.prod(r for r in rest if r) // groups
    grouped = op(aten.reshape.default, x, [sizes[0], groups, width])
    normal = op(aten.layer_norm.default, grouped, [width], None, None, eps, False)
    per_channel = [1, -1, *[1] * (rank(x) - 2)]
    weight, bias = (None if p is None else op.shaped(p, per_channel) for p in (weight, bias))
    return _affine(Call(aten.reshape.default, (normal, sizes)), weight, bias, op)


def instance_norm(node: fx.Node, editor: Editor) -> Spelled:
    """instance_norm(x, w, b) -> group_norm(x, channels, w, b), where it normalises by the image's own statistics"""
    x, weight, bias, _mean, _var, own, _momentum, eps, _cudnn = node.args
    channels = fixed(shape(x)[1])
    return (
        Call(aten.group_norm.default, (x, channels, weight, bias, eps, False)) if own and channels else None
    )


def vector_norm(node: fx.Node, editor: Editor) -> Spelled:
    """linalg_vector_norm(x, 2, dims, keepdim) -> sqrt(sum(x * x, dims, keepdim))"""
    x, order, dims, keepdim = node.args
    if order != 2 or dims is None or node.kwargs:
        return None
    op = Expand(node, editor)
    total = op(aten.sum.dim_IntList, op(aten.mul.Tensor, x, x), dims, keepdim)
    return Call(aten.sqrt.default, (total,))


def sdpa(node: fx.Node, editor: Editor) -> Spelled:
    """scaled_dot_product_attention(q, k, v, mask) -> matmul(softmax(matmul(q * scale, k.T) + mask), v)

    ``scale`` is 1 / sqrt(width of q) unless given. A boolean mask and the causal one become ``where`` with a number so
    low that its exponential is 0. A query that attends to nothing is 0 in PyTorch and a mean after such a softmax: where
    the mask is not a constant without such a row, a second ``where`` makes it 0 again.
    """
    query, key, value, mask, dropout, causal = node.args
    scale, last = node.kwargs.get("scale"), rank(query) - 1
    width = fixed(shape(query)[-1])
    if dropout or node.kwargs.get("enable_gqa") or not width or rank(key) != rank(query):
        return None
    rows, columns = fixed(shape(query)[-2]), fixed(shape(key)[-2])
    if causal and (rows is None or columns is None):
        return None
    op = Expand(node, editor)
    turned = op(aten.permute.default, key, [*range(last - 1), last, last - 1])
    scaled = op(aten.mul.Scalar, query, 1 / math.sqrt(width) if scale is None else scale)
    scores = op(aten.matmul.default, scaled, turned)
    if causal:
        mask = op.constant(torch.ones((rows or 0, columns or 0), dtype=torch.bool).tril(), "causal")
    scores = scores if mask is None else _masked(scores, mask, op)
    weights = op(aten.softmax.int, scores, last, None)
    if not causal and _may_have_empty_row(mask, editor):
        weights = op(
            aten.where.self, mask, weights, op.constant(torch.zeros((), dtype=dtype(weights)), "nothing")
        )
    return Call(aten.matmul.default, (weights, value))


def _masked(scores: fx.Node, mask: fx.Node, op: Expand) -> fx.Node:
    if dtype(mask) is not torch.bool:
        return op(aten.add.Tensor, scores, mask)
    low = torch.tensor(torch.finfo(dtype(scores)).min / 2, dtype=dtype(scores))
    return op(aten.where.self, mask, scores, op.constant(low, "masked"))


def _may_have_empty_row(mask: Any, editor: Editor) -> bool:
    if mask is None or dtype(mask) is not torch.bool:
        return False
    return not is_constant(mask) or not bool(editor.tensor(mask).any(-1).all())


def global_pool(node: fx.Node, editor: Editor) -> Spelled:
    """adaptive_avg_pool2d(x, [1, 1]) -> mean(x, [2, 3], keepdim)"""
    x, sizes = node.args
    return Call(aten.mean.dim, (x, [rank(x) - 2, rank(x) - 1], True)) if list(sizes) == [1, 1] else None


def adaptive_pool(node: fx.Node, editor: Editor) -> Spelled:
    """adaptive_avg_pool2d(x, [h, w]) -> avg_pool2d(x, [H / h, W / w]), where h divides H and w divides W"""
    x, sizes = node.args
    given = [fixed(size) for size in shape(x)[-2:]]
    if None in given or any(g % s for g, s in zip(given, sizes) if g is not None):
        return None
    kernel = [g // s for g, s in zip(given, sizes) if g is not None]
    return Call(aten.avg_pool2d.default, (x, kernel, kernel, [0, 0], False, True, None))


def last_axis_softmax(node: fx.Node, editor: Editor) -> Spelled:
    """softmax(x, d) -> permute(softmax(permute(x), -1)), the axes d and -1 exchanged"""
    x, dim, *rest = node.args
    last = rank(x) - 1
    if dim % rank(x) == last:
        return None
    order = list(range(rank(x)))
    order[dim], order[last] = last, dim % rank(x)
    op = Expand(node, editor)
    made = op(node.target, op(aten.permute.default, x, order), last, *rest)
    return Call(aten.permute.default, (made, order))


RULES: tuple[Rule, ...] = (
    Spelling("layer_norm", (aten.layer_norm.default,), layer_norm),
    Spelling("group_norm", (aten.group_norm.default,), group_norm),
    Spelling("instance_norm", (aten.instance_norm.default,), instance_norm),
    Spelling("vector_norm", (aten.linalg_vector_norm.default,), vector_norm),
    Spelling("last_axis_softmax", (aten.softmax.int, aten.log_softmax.int), last_axis_softmax),
    Spelling("sdpa", (aten.scaled_dot_product_attention.default,), sdpa),
    Spelling("global_pool", (aten.adaptive_avg_pool2d.default,), global_pool),
    Spelling("adaptive_pool", (aten.adaptive_avg_pool2d.default,), adaptive_pool),
)
