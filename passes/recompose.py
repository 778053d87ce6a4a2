"""``recompose``: whole operators from their pieces, and no copies for layout's sake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import Rule, producer
from fxc.passes.canonical_shape import LAYOUT_RULES
from fxc.passes.canonical_shape import RULES as SHAPE_RULES
from fxc.passes.spelling import Call, Spelled, Spelling, settle
from fxc.passes.values import dtype, is_constant, is_floating, rank, same_shape, shape

aten = torch.ops.aten


def mean_to_pool(node: fx.Node, editor: Editor) -> Spelled:
    """mean(x, [2, 3], keepdim) -> adaptive_avg_pool2d(x, [1, 1]), with squeeze.dims behind it without keepdim"""
    x, dims, keepdim = node.args
    if rank(x) != 4 or dims is None or sorted(dims) != [2, 3] or node.kwargs or not is_floating(x):
        return None
    if keepdim:
        return Call(aten.adaptive_avg_pool2d.default, (x, [1, 1]))
    pool = editor.call(aten.adaptive_avg_pool2d.default, (x, [1, 1]), origins=(node,), suffix=".pool")
    return Call(aten.squeeze.dims, (pool, [2, 3]))


def matrix_to_linear(node: fx.Node, editor: Editor) -> Spelled:
    """mm(x, w.T), matmul(x, w.T) -> linear(x, w);  addmm(b, x, w.T) -> linear(x, w, b), where w is a parameter"""
    bias, x, matrix = node.args if node.target is aten.addmm.default else (None, *node.args)
    if node.kwargs or rank(x) < 2 or (bias is not None and not _is_bias(bias, node)):
        return None
    weight = _transposed(matrix, editor)
    return None if weight is None else Call(aten.linear.default, (x, weight, bias))


def _is_bias(bias: Any, node: fx.Node) -> bool:
    return is_constant(bias) and same_shape(shape(bias), shape(node)[-1:])


def _transposed(matrix: Any, editor: Editor) -> fx.Node | None:
    turned = producer(matrix, aten.permute.default)
    if turned is not None and is_constant(turned.args[0]) and list(turned.args[1]) == [1, 0]:
        return turned.args[0]  # type: ignore[return-value]
    if is_constant(matrix) and rank(matrix) == 2:
        return editor.call(aten.permute.default, (matrix, [1, 0]), origins=(matrix,), suffix=".T")
    return None


def linear_bias(node: fx.Node, editor: Editor) -> Spelled:
    """linear(x, w, None) + b -> linear(x, w, b), where b is a parameter of as many entries as w has rows"""
    for product, bias in (node.args[:2], node.args[1::-1]):
        linear = producer(product, aten.linear.default)
        if linear is None or linear.args[2] is not None or len(linear.users) > 1 or node.kwargs:
            continue
        if _is_bias(bias, node) and dtype(bias) == dtype(linear):
            editor.absorb(node, linear)
            return Call(aten.linear.default, (linear.args[0], linear.args[1], bias))
    return None


def flat_linear(node: fx.Node, editor: Editor) -> Spelled:
    """reshape(linear(reshape(x, [-1, k]), w, b), [*x.shape[:-1], n]) -> linear(x, w, b)"""
    linear = producer(node.args[0], aten.linear.default)
    flat = producer(linear.args[0], aten.reshape.default) if linear is not None else None
    if flat is None or linear is None or len(linear.users) > 1 or rank(flat) != 2:
        return None
    x = flat.args[0]
    if not same_shape((*shape(x)[:-1], shape(linear)[-1]), shape(node)) or shape(x)[-1] != shape(flat)[-1]:
        return None
    editor.absorb(node, linear)
    return Call(aten.linear.default, (x, *linear.args[1:]))


def gate(node: fx.Node, editor: Editor) -> Spelled:
    """x * sigmoid(x) -> silu(x);  x * hardsigmoid(x) -> hardswish(x)"""
    for x, gate in (node.args, node.args[::-1]):
        inner = producer(gate, aten.sigmoid.default, aten.hardsigmoid.default)
        if inner is not None and inner.args[0] is x and len(inner.users) == 1 and is_floating(x):
            editor.absorb(node, inner)
            return Call(
                aten.silu.default if inner.target is aten.sigmoid.default else aten.hardswish.default, (x,)
            )
    return None


def hard_sigmoid(node: fx.Node, editor: Editor) -> Spelled:
    """hardtanh(x + 3, 0, 6) / 6 -> hardsigmoid(x);  likewise * (1 / 6)"""
    factor = node.args[1] if node.target is aten.mul.Scalar else 1 / node.args[1] if node.args[1] else 0
    ramp = producer(node.args[0], aten.hardtanh.default, aten.clamp.default)
    shifted = producer(ramp.args[0], aten.add.Scalar) if ramp is not None else None
    if ramp is None or shifted is None or abs(factor * 6 - 1) > 1e-6:
        return None
    if tuple(ramp.args[1:]) != (0, 6) or shifted.args[1] != 3 or len(ramp.users) > 1 or not is_floating(node):
        return None
    editor.absorb(node, shifted, ramp)
    return Call(aten.hardsigmoid.default, (shifted.args[0],))


def hard_swish(node: fx.Node, editor: Editor) -> Spelled:
    """x * hardtanh(x + 3, 0, 6) / 6 -> hardswish(x);  likewise * (1 / 6)"""
    factor = node.args[1] if node.target is aten.mul.Scalar else 1 / node.args[1] if node.args[1] else 0
    product = producer(node.args[0], aten.mul.Tensor)
    if product is None or abs(factor * 6 - 1) > 1e-6 or len(product.users) > 1 or not is_floating(node):
        return None
    for x, ramp in (product.args, product.args[::-1]):
        ramp = producer(ramp, aten.hardtanh.default, aten.clamp.default)
        shifted = producer(ramp.args[0], aten.add.Scalar) if ramp is not None else None
        if ramp is None or shifted is None or shifted.args[0] is not x or shifted.args[1] != 3:
            continue
        if tuple(ramp.args[1:]) == (0, 6) and len(ramp.users) == 1:
            editor.absorb(node, shifted, ramp, product)
            return Call(aten.hardswish.default, (x,))
    return None


def scaled_term(node: fx.Node, editor: Editor) -> Spelled:
    """add(x, y, alpha=a) -> x + y * a;  likewise sub"""
    alpha = node.kwargs.get("alpha", 1)
    if alpha == 1:
        return None
    term = editor.call(aten.mul.Scalar, (node.args[1], alpha), origins=(node,), suffix=".term")
    return Call(node.target, (node.args[0], term))


RULES: tuple[Rule, ...] = (
    *LAYOUT_RULES,
    Spelling("mean_to_pool", (aten.mean.dim,), mean_to_pool),
    Spelling(
        "matrix_to_linear", (aten.addmm.default, aten.mm.default, aten.matmul.default), matrix_to_linear
    ),
    Spelling("linear_bias", (aten.add.Tensor,), linear_bias),
    Spelling("flat_linear", (aten.reshape.default,), flat_linear),
    Spelling("gate", (aten.mul.Tensor,), gate),
    Spelling("hard_swish", (aten.mul.Scalar, aten.div.Scalar), hard_swish),
    Spelling("hard_sigmoid", (aten.mul.Scalar, aten.div.Scalar), hard_sigmoid),
    Spelling("scaled_term", (aten.add.Tensor, aten.sub.Tensor), scaled_term),
    *SHAPE_RULES,
)


@dataclass(frozen=True)
class Recompose(Pass):
    """Put whole operators together from their pieces, and drop copies that only change strides.

    Before::

        %copy = contiguous(%x)
        %sigmoid = sigmoid(%copy)
        %mul = mul(%copy, %sigmoid)
        %mean = mean(%mul, [2, 3])
        %t = permute(fc.weight, [1, 0])
        %addmm = addmm(fc.bias, %mean, %t)

    After::

        %mul = silu(%x)
        %mean_pool = adaptive_avg_pool2d(%mul, [1, 1])
        %mean = squeeze(%mean_pool, [2, 3])
        %addmm = linear(%mean, fc.weight, fc.bias)

    Pieces that something else reads too are left alone.
    """

    name: ClassVar[str] = "recompose"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    def apply(self, program: Program) -> PassResult:
        """The rules until nothing changes; the pieces that nothing reads any more go."""
        editor = Editor(program, self.name)
        settle(editor, RULES)
        if not editor.modified:
            return PassResult(program, modified=False)
        editor.sweep()
        return PassResult(editor.finish(), modified=True)
