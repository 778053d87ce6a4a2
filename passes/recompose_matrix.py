"""Linear layers and matrix products from their pieces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of, labels, origin_of, set_origin
from fxc.compiler.rule import Rule, producer
from fxc.passes.spelling import Call, Expand, Spelled, Spelling
from fxc.passes.values import dtype, is_constant, rank, same_shape, same_size, shape

aten = torch.ops.aten


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


def batch_product(node: fx.Node, editor: Editor) -> Spelled:
    """bmm(x, expand(w.T, [n, -1, -1])) -> linear(x, w), where w is a parameter;  bmm(x, y) -> matmul(x, y)"""
    x, matrix = node.args
    spread = producer(matrix, aten.expand.default)
    inner = spread.args[0] if spread is not None else None
    lifted = producer(inner, aten.unsqueeze.default, aten.reshape.default)
    for candidate in (inner, lifted.args[0] if lifted is not None else None):
        weight = _transposed(candidate, editor) if isinstance(candidate, fx.Node) else None
        if weight is not None and rank(candidate) == 2:
            return Call(aten.linear.default, (x, weight, None))
    return Call(aten.matmul.default, (x, matrix))


def linear_bias(node: fx.Node, editor: Editor) -> Spelled:
    """linear(x, w, None) + b -> linear(x, w, b), where b is a parameter of as many entries as w has rows"""
    for product, bias in (node.args[:2], node.args[1::-1]):
        linear = producer(product, aten.linear.default)
        if linear is None or linear.args[2] is not None or len(linear.users) > 1 or node.kwargs:
            continue
        if _is_bias(bias, node) and dtype(bias) == dtype(linear):
            # The bias may be read for the first time behind the product.
            linear.prepend(bias)
            return _instead(node, linear, (linear.args[0], linear.args[1], bias), editor)
    return None


def flat_linear(node: fx.Node, editor: Editor) -> Spelled:
    """reshape(linear(reshape(x, [-1, k]), w, b), [*x.shape[:-1], n]) -> linear(x, w, b)"""
    linear = producer(node.args[0], aten.linear.default)
    flat = producer(linear.args[0], aten.reshape.default) if linear is not None else None
    if flat is None or linear is None or len(linear.users) > 1 or rank(flat) != 2:
        return None
    x = flat.args[0]
    outer = shape(x)[:-1]
    # With equal products, one size may be written as another expression of the same symbol.
    known = same_shape(outer[1:], shape(node)[1:-1]) and rank(node) == rank(x)
    if (
        not known
        or not same_size(shape(x)[-1], shape(flat)[-1])
        or not same_size(shape(linear)[-1], shape(node)[-1])
    ):
        return None
    return _instead(node, linear, (x, *linear.args[1:]), editor)


def _instead(node: fx.Node, linear: fx.Node, args: tuple[Any, ...], editor: Editor) -> fx.Node:
    """``linear`` with other arguments, computing what ``node`` did: the layer keeps its own label."""
    editor.retarget(linear, aten.linear.default, args, val=node.meta["val"])
    editor.absorb(linear, node)
    return linear


def einsum(node: fx.Node, editor: Editor) -> Spelled:
    """einsum("bhid,bhjd->bhij", x, y) -> matmul(x, permute(y)): shared letters first, one free letter each, one summed"""
    left, arrow, out = node.args[0].replace(" ", "").partition("->")
    letters, tensors = left.split(","), list(node.args[1])
    if not arrow or len(letters) != 2 or "." in left or any(len(set(s)) != len(s) for s in letters):
        return None
    plan = _plan(letters[0], letters[1], out)
    if plan is None and _plan(letters[1], letters[0], out) is not None:
        letters, tensors = letters[::-1], tensors[::-1]
        plan = _plan(letters[0], letters[1], out)
    if plan is None:
        return None
    op, (first, second, result) = Expand(node, editor), plan
    operands = [_turned(t, s, want, op) for t, s, want in zip(tensors, letters, (first, second))]
    if result == out:
        return Call(aten.matmul.default, tuple(operands))
    product = op(aten.matmul.default, *operands)
    return Call(aten.permute.default, (product, [result.index(s) for s in out]))


def _plan(a: str, b: str, out: str) -> tuple[str, str, str] | None:
    """Letters of the operands and the result of a matrix product, or ``None``."""
    batch = "".join(s for s in out if s in a and s in b)
    free_a, free_b = (
        "".join(s for s in out if s in a and s not in b),
        "".join(s for s in out if s in b and s not in a),
    )
    summed = "".join(s for s in a if s in b and s not in out)
    complete = set(a) == set(batch + free_a + summed) and set(b) == set(batch + free_b + summed)
    if not complete or len(free_a) != 1 or len(free_b) != 1 or len(summed) != 1:
        return None
    if out[-2:] == free_b + free_a:
        return None
    return batch + free_a + summed, batch + summed + free_b, batch + free_a + free_b


def _turned(tensor: fx.Node, letters: str, wanted: str, op: Expand) -> fx.Node:
    if letters == wanted:
        return tensor
    return op(aten.permute.default, tensor, [letters.index(s) for s in wanted])


RULES: tuple[Rule, ...] = (
    Spelling(
        "matrix_to_linear", (aten.addmm.default, aten.mm.default, aten.matmul.default), matrix_to_linear
    ),
    Spelling("batch_product", (aten.bmm.default,), batch_product),
    Spelling("linear_bias", (aten.add.Tensor,), linear_bias),
    Spelling("flat_linear", (aten.reshape.default,), flat_linear),
    Spelling("einsum", (aten.einsum.default,), einsum),
)


def name_layers(editor: Editor) -> None:
    """Label a product that is all of its layer's work as the layer: ``fc`` for ``fc.addmm`` over ``fc.weight``."""
    taken = labels(editor.graph)
    for node in editor.graph.nodes:
        if node.target is not aten.linear.default or not is_constant(node.args[1]):
            continue
        layer, _, name = str(node.args[1].target).rpartition(".")
        if name == "weight" and label_of(node).startswith(f"{layer}.") and layer not in taken:
            set_origin(node, replace(origin_of(node), label=layer))
            taken[layer] = node
