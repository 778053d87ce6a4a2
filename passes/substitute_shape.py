"""Operators that move data, and convolutions of another rank, in terms of simpler operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import fixed, is_constant, plain_sizes, rank, shape

aten = torch.ops.aten


def _blocks(node: fx.Node, op: Expand, split: list[int], order: list[int]) -> Spelled:
    """reshape to ``split`` sizes behind the batch, permute, reshape to the node's own shape."""
    x, sizes = node.args[0], plain_sizes(node)
    if sizes is None:
        return None
    # The batch is the one size that may be symbolic.
    parts = op(aten.reshape.default, x, [sizes[0], *split])
    return Call(aten.reshape.default, (op(aten.permute.default, parts, order), sizes))


def _image(node: fx.Node) -> list[int] | None:
    sizes = [fixed(size) for size in shape(node.args[0])[1:]]
    return None if len(sizes) != 3 or None in sizes else [s for s in sizes if s is not None]


def pixel_shuffle(node: fx.Node, editor: Editor) -> Spelled:
    """pixel_shuffle(x, r) -> reshape [n, c, r, r, h, w], permute [n, c, h, r, w, r], reshape [n, c, h * r, w * r]"""
    image, r = _image(node), node.args[1]
    if image is None:
        return None
    c, h, w = image
    return _blocks(node, Expand(node, editor), [c // (r * r), r, r, h, w], [0, 1, 4, 2, 5, 3])


def pixel_unshuffle(node: fx.Node, editor: Editor) -> Spelled:
    """pixel_unshuffle(x, r) -> reshape [n, c, h, r, w, r], permute [n, c, r, r, h, w], reshape [n, c * r * r, h, w]"""
    image, r = _image(node), node.args[1]
    if image is None:
        return None
    c, h, w = image
    return _blocks(node, Expand(node, editor), [c, h // r, r, w // r, r], [0, 1, 3, 5, 2, 4])


def channel_shuffle(node: fx.Node, editor: Editor) -> Spelled:
    """channel_shuffle(x, g) -> reshape [n, g, c / g, h, w], permute [n, c / g, g, h, w], reshape [n, c, h, w]"""
    image, g = _image(node), node.args[1]
    if image is None:
        return None
    c, h, w = image
    return _blocks(node, Expand(node, editor), [g, c // g, h, w], [0, 2, 1, 3, 4])


def roll(node: fx.Node, editor: Editor) -> Spelled:
    """roll(x, s, dim) -> cat([x[-s:], x[:-s]], dim), dimension after dimension"""
    x, shifts, dims = node.args
    sizes = [fixed(shape(x)[d]) for d in dims]
    if not dims or None in sizes or not all(isinstance(s, int) for s in shifts):
        return None
    op, call = Expand(node, editor), None
    for dim, size, shift in zip(dims, sizes, shifts):
        cut = (-shift) % size if size else 0
        if cut:
            x = x if call is None else op(call.target, *call.args)
            back = op(aten.slice.Tensor, x, dim, cut, size, 1)
            call = Call(aten.cat.default, ([back, op(aten.slice.Tensor, x, dim, 0, cut, 1)], dim))
    return node.args[0] if call is None else call


def conv1d(node: fx.Node, editor: Editor) -> Spelled:
    """conv1d(x, w, b) -> squeeze(conv2d(unsqueeze(x, 2), unsqueeze(w, 2), b), [2])"""
    x, weight, bias, stride, padding, dilation, groups = node.args
    if rank(x) != 3 or not is_constant(weight):
        return None
    op = Expand(node, editor)
    tall = op.shaped(weight, [shape(weight)[0], shape(weight)[1], 1, shape(weight)[2]])
    image = op(aten.unsqueeze.default, x, 2)
    wide = ([1, *stride], [0, *padding], [1, *dilation])
    return Call(aten.squeeze.dims, (op(aten.conv2d.default, image, tall, bias, *wide, groups), [2]))


def linear(node: fx.Node, editor: Editor) -> Spelled:
    """linear(x, w, b) -> squeeze(conv2d(reshape(x, [n, k, 1, 1]), reshape(w, [m, k, 1, 1]), b), [2, 3]), for x [n, k]"""
    x, weight, bias = node.args
    sizes = plain_sizes(x)
    if rank(x) != 2 or sizes is None or not is_constant(weight):
        return None
    op = Expand(node, editor)
    kernel = op.shaped(weight, [*shape(weight), 1, 1])
    image = op(aten.reshape.default, x, [*sizes, 1, 1])
    ones, zeros = [1, 1], [0, 0]
    product = op(aten.conv2d.default, image, kernel, bias, ones, zeros, ones, 1)
    return Call(aten.squeeze.dims, (product, [2, 3]))


def upsample_nearest(node: fx.Node, editor: Editor) -> Spelled:
    """upsample_nearest2d(x, by k) -> reshape(expand(reshape(x, [n, c, h, 1, w, 1]), [n, c, h, k, w, k])), k an integer"""
    image, out, sizes = _image(node), [fixed(size) for size in shape(node)[2:]], plain_sizes(node)
    if image is None or sizes is None or None in out:
        return None
    c, h, w = image
    factors: list[Any] = [o // i for o, i in zip(out, (h, w)) if o is not None and o % i == 0]
    if len(factors) < 2:
        return None
    op = Expand(node, editor)
    parts = op(aten.reshape.default, node.args[0], [sizes[0], c, h, 1, w, 1])
    repeated = op(aten.expand.default, parts, [-1, -1, -1, factors[0], -1, factors[1]])
    return Call(aten.reshape.default, (repeated, sizes))


RULES: tuple[Rule, ...] = (
    Spelling("pixel_shuffle", (aten.pixel_shuffle.default,), pixel_shuffle),
    Spelling("pixel_unshuffle", (aten.pixel_unshuffle.default,), pixel_unshuffle),
    Spelling("channel_shuffle", (aten.channel_shuffle.default,), channel_shuffle),
    Spelling("roll", (aten.roll.default,), roll),
    Spelling("conv1d", (aten.conv1d.default,), conv1d),
    Spelling("linear", (aten.linear.default,), linear),
    Spelling("upsample_nearest", (aten.upsample_nearest2d.vec,), upsample_nearest),
)
