"""Canonical spellings of normalisation, dropout, softmax, attention, pooling and convolution."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule
from fxc.passes.spelling import Call, Spelled, Spelling
from fxc.passes.values import dtype, rank, shape

aten = torch.ops.aten

_CONVS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
_TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
_PADDING = (aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding)


def _batch_norm(node: fx.Node) -> tuple[Any, ...] | None:
    x, weight, bias, mean, var, *rest = node.args
    if node.target in (aten._native_batch_norm_legit_no_training.default, aten._batch_norm_no_update.default):
        return (x, weight, bias, mean, var, False, *rest, False)
    training, momentum, eps = rest
    return None if training else (x, weight, bias, mean, var, False, momentum, eps, False)


def _layer_norm(node: fx.Node) -> tuple[Any, ...]:
    return (*node.args, False)


def _group_norm(node: fx.Node) -> tuple[Any, ...]:
    x, weight, bias, _n, _c, _hw, groups, eps = node.args
    return (x, groups, weight, bias, eps, False)


def _attention(node: fx.Node) -> tuple[Any, ...] | None:
    query, key, value, dropout, causal = node.args
    scale = node.kwargs.get("scale")
    return None if scale is not None else (query, key, value, node.kwargs.get("attn_mask"), dropout, causal)


def _first_arguments(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.args)


_TUPLES = {
    aten._native_batch_norm_legit_no_training.default: (aten.batch_norm.default, _batch_norm),
    aten._native_batch_norm_legit.default: (aten.batch_norm.default, _batch_norm),
    aten._batch_norm_no_update.default: (aten.batch_norm.default, _batch_norm),
    aten.native_batch_norm.default: (aten.batch_norm.default, _batch_norm),
    aten.cudnn_batch_norm.default: (aten.batch_norm.default, _batch_norm),
    aten.native_layer_norm.default: (aten.layer_norm.default, _layer_norm),
    aten.native_group_norm.default: (aten.group_norm.default, _group_norm),
    aten.native_dropout.default: (aten.dropout.default, _first_arguments),
    aten.max_pool2d_with_indices.default: (aten.max_pool2d.default, _first_arguments),
    aten.max_pool3d_with_indices.default: (aten.max_pool3d.default, _first_arguments),
    aten._scaled_dot_product_flash_attention_for_cpu.default: (
        aten.scaled_dot_product_attention.default,
        _attention,
    ),
}
"""Operators that return a tuple, the plain operator that returns its first entry, and its arguments."""


class FirstOfTuple(Rule):
    """getitem(native_layer_norm(x, …), 0) -> layer_norm(x, …);  likewise batch norm, group norm, pooling, attention"""

    name = "first_of_tuple"
    anchors = tuple(_TUPLES)

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """The node and its plain arguments, where they can be written."""
        args = _TUPLES[node.target][1](node)
        return None if args is None else (node, args)

    def check(self, match: Any, editor: Editor) -> str | None:
        """Only the first entry may be read."""
        others = [
            u for u in match[0].users if u.target is not operator.getitem or (u.args[1] != 0 and u.users)
        ]
        return f"{others[0].name} reads another entry of its result" if others else None

    def rewrite(self, match: Any, editor: Editor) -> None:
        """One node that returns the tensor."""
        node, args = match
        editor.retarget(node, _TUPLES[node.target][0], args, val=node.meta["val"][0])
        for user in list(node.users):
            if user.args[1] == 0:
                editor.replace(user, node)
            else:
                editor.erase(user)


def softmax(node: fx.Node, editor: Editor) -> Spelled:
    """_softmax(x, dim, half_to_float) -> softmax.int(x, dim, None);  likewise _log_softmax"""
    x, dim, half_to_float = node.args
    target = aten.softmax.int if node.target is aten._softmax.default else aten.log_softmax.int
    return Call(target, (x, dim, dtype(node) if half_to_float else None))


def softmax_dtype(node: fx.Node, editor: Editor) -> Spelled:
    """softmax(x, dim, x.dtype) -> softmax(x, dim, None)"""
    x, dim, wanted = node.args
    return Call(node.target, (x, dim, None)) if wanted is not None and wanted == dtype(x) else None


def convolution(node: fx.Node, editor: Editor) -> Spelled:
    """convolution(x, w, b, …, transposed, …) -> conv{1,2,3}d or conv_transpose{1,2,3}d"""
    x, weight, bias, stride, padding, dilation, transposed, output_padding, groups = node.args
    dims = rank(weight) - 2
    stride, padding, dilation, output_padding = (
        list(v) * dims if len(v) == 1 else list(v) for v in (stride, padding, dilation, output_padding)
    )
    if not 1 <= dims <= 3:
        return None
    if transposed:
        args = (x, weight, bias, stride, padding, output_padding, groups, dilation)
        return Call(_TRANSPOSED[dims - 1], args)
    return Call(_CONVS[dims - 1], (x, weight, bias, stride, padding, dilation, groups))


def conv_padding(node: fx.Node, editor: Editor) -> Spelled:
    """conv(x, w, padding="same") -> conv(x, w, padding=[…]);  an odd width goes to the end, by a pad before it"""
    x, weight, bias, stride, mode, dilation, groups = node.args
    total = [
        d * (int(k) - 1) if mode == "same" else 0 for d, k in zip(dilation, shape(weight)[2:], strict=True)
    ]
    if any(t % 2 for t in total):
        widths = [w for t in reversed(total) for w in (0, t % 2)]
        args = (x, widths, "constant", None)
        x = editor.call(aten.pad.default, args, origins=(node,), suffix=".pad")
    target = _CONVS[_PADDING.index(node.target)]
    return Call(target, (x, weight, bias, stride, [t // 2 for t in total], dilation, groups))


def respelled(target: Any) -> Any:
    """The same arguments under another operator."""
    return lambda node, editor: Call(target, tuple(node.args), dict(node.kwargs))


def resize(node: fx.Node, editor: Editor) -> Spelled:
    """upsample_*(x, size, scales…) -> upsample_*.vec(x, size or None, scales or None)"""
    flags = 1 if len(node.target._schema.arguments) - len(shape(node)) == 1 else 0
    x, size, *rest = node.args
    scales = rest[flags:]
    known = all(s is not None for s in scales)
    packet = node.target.overloadpacket
    return Call(packet.vec, (x, None if known else size, *rest[:flags], scales if known else None))


_RESIZES = (
    aten.upsample_nearest1d.default, aten.upsample_nearest2d.default, aten.upsample_nearest3d.default,
    aten._upsample_nearest_exact1d.default, aten._upsample_nearest_exact2d.default,
    aten.upsample_linear1d.default, aten.upsample_bilinear2d.default, aten.upsample_trilinear3d.default,
    aten.upsample_bicubic2d.default,
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    FirstOfTuple(),
    Spelling("softmax", (aten._softmax.default, aten._log_softmax.default), softmax),
    Spelling("softmax_dtype", (aten.softmax.int, aten.log_softmax.int), softmax_dtype),
    Spelling("convolution", (aten.convolution.default,), convolution),
    Spelling("conv_padding", _PADDING, conv_padding),
    Spelling("resize", _RESIZES, resize),
    Spelling("pool", (aten._adaptive_avg_pool2d.default,), respelled(aten.adaptive_avg_pool2d.default)),
    Spelling("pool", (aten._adaptive_avg_pool3d.default,), respelled(aten.adaptive_avg_pool3d.default)),
)
