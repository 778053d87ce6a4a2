"""Convolutions in terms of others: for toolchains that lack groups, or large strides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import fixed, is_constant, shape

aten = torch.ops.aten

_PATCH = 8
"""Smallest kernel that counts as a patch: smaller ones every toolchain has."""


def patch_conv(node: fx.Node, editor: Editor) -> Spelled:
    """conv2d(x, w [m, c, p, p], b, stride p) -> conv2d(pixel_unshuffle(x, p), w [m, c * p * p, 1, 1], b), for p of 8 or more"""
    x, weight, bias, stride, padding, dilation, groups = node.args
    if not is_constant(weight):
        return None
    made, read, height, width = shape(weight)
    sides = [fixed(side) for side in shape(x)[2:]]
    plain = list(padding) == [0, 0] and list(dilation) == [1, 1] and groups == 1
    whole = list(stride) == [height, width] and all(side and side % height == 0 for side in sides)
    if not plain or not whole or height != width or height < _PATCH:
        return None
    op = Expand(node, editor)
    kernel = op.shaped(weight, [made, read * height * width, 1, 1])
    patches = op(aten.pixel_unshuffle.default, x, height)
    return Call(aten.conv2d.default, (patches, kernel, bias, [1, 1], [0, 0], [1, 1], 1))


def dense_conv_transpose(node: fx.Node, editor: Editor) -> Spelled:
    """conv_transpose(x, w [g * c, m, …], groups g) -> conv_transpose(x, w [g * c, g * m, …]), zero between the groups"""
    x, weight, bias, stride, padding, output_padding, groups, dilation = node.args
    if groups == 1 or not is_constant(weight):
        return None
    dense = _block_diagonal(editor.tensor(weight).detach(), int(groups))
    kernel = editor.constant(dense, label_of(weight), origins=(node,))
    return Call(node.target, (x, kernel, bias, stride, padding, output_padding, 1, dilation))


def _block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """[g * c, m, …] to [g * c, g * m, …]."""
    read, made = weight.shape[0] // groups, weight.shape[1]
    dense = weight.new_zeros(weight.shape[0], groups * made, *weight.shape[2:])
    for group in range(groups):
        rows, columns = slice(group * read, (group + 1) * read), slice(group * made, (group + 1) * made)
        dense[rows, columns] = weight[rows]
    return dense


_TRANSPOSED: tuple[Any, ...] = (
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
)

RULES: tuple[Rule, ...] = (
    Spelling("patch_conv", (aten.conv2d.default,), patch_conv),
    Spelling("dense_conv_transpose", _TRANSPOSED, dense_conv_transpose),
)
