"""How each operator is computed with its channels on the second axis. A rule gives the form of its result, or ``None``.

A rule that gives a form has changed its node, or left it to be swept away; one that gives ``None`` has done nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx

from fxc.backends.coreml.forms import (
    Arranger,
    Atom,
    Form,
    Group,
    Groups,
    apart,
    arranged_tensor,
    atoms,
    flat,
    like,
    literal,
    regrouped,
    size,
    sizes_of,
)
from fxc.compiler.editor import Editor

aten = torch.ops.aten

MAX_KERNEL = 13
"""Longest side of what a flattened image becomes the kernel of."""


class Walk:
    """The state of one walk over a graph: the forms of values."""

    def __init__(self, editor: Editor, tokens: bool):
        self.editor, self.tokens = editor, tokens
        self.forms: dict[fx.Node, Form] = {}
        self._arranger = Arranger(editor)

    def form(self, node: fx.Node) -> Form:
        """The form of a value; one that nobody arranged is its own carrier."""
        if node not in self.forms:
            dims = atoms(sizes_of(node))
            self.forms[node] = Form(node, dims, dims, node)
        return self.forms[node]

    def is_turned(self, node: Any) -> bool:
        """Whether the node no longer has the model's own arrangement."""
        return node in self.forms and self.forms[node].turned

    def plain(self, node: fx.Node, reader: fx.Node) -> fx.Node:
        """A node with the model's own arrangement of a value."""
        form = self.form(node)
        return self.arranged(form, form.dims, reader)

    def arranged(self, form: Form, groups: Groups, reader: fx.Node) -> fx.Node:
        """A node that carries the value as ``groups`` say."""
        return self._arranger.arranged(form, groups, origin=reader)

    def become(self, node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: Any = None) -> fx.Node:
        """``node`` computes something else, under its name."""
        self.editor.retarget(node, target, args, dict(kwargs or {}))
        self.editor.revalue(node)
        return node

    def make(self, like_node: fx.Node, what: str, target: Any, *args: Any) -> fx.Node:
        """A node that does a part of another's work."""
        return self.editor.call(target, args, origins=(like_node,), suffix=f".{what}")

    def constant(self, tensor: Tensor, old: fx.Node, reader: fx.Node) -> fx.Node:
        """A tensor of our own in the place of a parameter."""
        return self.editor.constant(tensor, f"{old.target}.layout", origins=(reader,))


Rule = Callable[[fx.Node, Walk], "Form | None"]


def linear(node: fx.Node, walk: Walk) -> Form | None:
    """linear(x, weight, bias) -> conv2d(x', weight[:, :, None, None], bias)"""
    x, weight, bias = node.args
    if not isinstance(x, fx.Node) or not isinstance(weight, fx.Node) or weight.op != "get_attr":
        return None
    form = walk.form(x)
    if len(form.dims) < 2 or (len(form.dims) > 2 and not walk.tokens):
        return None
    groups, kernel = _for_conv(form)
    matrix = walk.editor.tensor(weight).detach()
    out = Atom(matrix.shape[0])
    made = walk.constant(matrix.reshape(matrix.shape[0], -1, *kernel), weight, node)
    source = walk.arranged(form, groups, node)
    walk.become(node, aten.conv2d.default, (source, made, bias, [1, 1], [0, 0], [1, 1], 1))
    after = (groups[0], (out,), *(() if size(g) == k else g for g, k in zip(groups[2:], kernel)))
    return Form(node, after, (*form.dims[:-1], (out,)))


def _for_conv(form: Form) -> tuple[Groups, tuple[int, int]]:
    """Four axes to read a value by, and the kernel that takes all of its last axis."""
    *others, channels = form.dims
    image = form.groups
    whole = len(image) == 4 and len(others) == 1 and (image[0], flat(image[1:])) == (others[0], channels)
    if whole and image[1] and max(size(g) for g in image[2:]) <= MAX_KERNEL:
        return image, (size(image[2]), size(image[3]))
    if len(image) == 4 and image[1] == channels and (form.turned or len(others) == 3):
        return image, (1, 1)
    lead, rest = _lead(form, others)
    return (lead, channels, *rest), (1, 1)


def _lead(form: Form, others: list[Group]) -> tuple[Group, tuple[Group, Group]]:
    """The axis that counts samples, and the two of space."""
    lead = form.groups[0] if set(form.groups[0]) <= set(flat(tuple(others))) else others[0]
    left = tuple(tuple(a for a in group if a not in lead) for group in others)
    left = tuple(group for group in left if group)
    return lead, (flat(left[:-1]), left[-1] if left else ())


def pointwise(node: fx.Node, walk: Walk) -> Form | None:
    """f(x) -> f(x')"""
    source = node.args[0]
    if not walk.is_turned(source) or any(isinstance(a, fx.Node) for a in node.args[1:]):
        return None
    form = walk.form(source)
    walk.become(node, node.target, (form.carrier, *node.args[1:]), node.kwargs)
    return Form(node, form.groups, form.dims)


def binary(node: fx.Node, walk: Walk) -> Form | None:
    """f(x, y) -> f(x', y'), where both have the same shape or one is a constant"""
    operands = list(node.args[:2])
    base = next((o for o in operands if walk.is_turned(o)), None)
    if base is None:
        return None
    form = walk.form(base)
    if tuple(map(size, form.dims)) != sizes_of(node):
        return None
    turned = [form.carrier if o is base else _beside(o, form, node, walk) for o in operands]
    if any(t is None for t in turned):
        return None
    walk.become(node, node.target, (*turned, *node.args[2:]), node.kwargs)
    return Form(node, form.groups, form.dims)


def _beside(other: Any, form: Form, node: fx.Node, walk: Walk) -> Any:
    if not isinstance(other, fx.Node):
        return other
    if other.op == "get_attr":
        tensor = arranged_tensor(walk.editor.tensor(other).detach(), form.dims, form.groups)
        return None if tensor is None else walk.constant(tensor, other, node)
    found = like(walk.form(other), form.dims)
    return None if found is None else walk.arranged(found, form.groups, node)


def layer_norm(node: fx.Node, walk: Walk) -> Form | None:
    """layer_norm(x, [C], w, b) -> (x' - mean) * rsqrt(mean((x' - mean)^2) + eps) * w + b, over the second axis"""
    x, shape, weight, bias, eps, _ = node.args
    form = walk.form(x)  # type: ignore[arg-type]
    if not walk.tokens or not _has_channels(form) or len(shape) != 1:  # type: ignore[arg-type]
        return None
    source, mean = form.carrier, aten.mean.dim
    centred = walk.make(
        node, "centred", aten.sub.Tensor, source, walk.make(node, "mean", mean, source, [1], True)
    )
    square = walk.make(node, "square", aten.mul.Tensor, centred, centred)
    variance = walk.make(node, "variance", mean, square, [1], True)
    scale = walk.make(
        node, "scale", aten.rsqrt.default, walk.make(node, "eps", aten.add.Scalar, variance, eps)
    )
    steps = [(aten.mul.Tensor, scale)]
    for target, parameter in ((aten.mul.Tensor, weight), (aten.add.Tensor, bias)):
        if isinstance(parameter, fx.Node):
            steps.append((target, _beside(parameter, form, node, walk)))
    for i, (target, operand) in enumerate(steps[:-1]):
        centred = walk.make(node, f"part{i}", target, centred, operand)
    walk.become(node, steps[-1][0], (centred, steps[-1][1]))
    return Form(node, form.groups, form.dims)


def _has_channels(form: Form) -> bool:
    """Whether the last axis of the model's is the second of the carrier's, because of a layer before or a permutation."""
    carried = len(form.groups) > 2 and bool(form.dims[-1]) and form.groups[1] == form.dims[-1]
    return carried and (form.turned or form.carrier is not form.plain)


def view(node: fx.Node, walk: Walk) -> Form | None:
    """A reshape, permutation, squeeze or unsqueeze: the same numbers, read otherwise."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    form = walk.form(source)
    if node.target is aten.permute.default:
        order: Any = node.args[1]
        found: Form | None = Form(form.carrier, form.groups, tuple(form.dims[i] for i in order))
    else:
        found = regrouped(form, sizes_of(node))
    if found is None:
        return None
    return Form(found.carrier, found.groups, found.dims, None if form.turned else node)


def slice_(node: fx.Node, walk: Walk) -> Form | None:
    """slice(x, dim, …) -> slice(x', …) of the axis that carries it"""
    source, dim, *rest = node.args
    found = _axis(source, dim, walk)
    if found is None:
        return None
    form, groups = found
    place = groups.index(form.dims[dim])  # type: ignore[index]
    (after,) = atoms(sizes_of(node)[dim : dim + 1])  # type: ignore[operator,misc]
    carrier = walk.arranged(form, groups, node)
    walk.become(node, aten.slice.Tensor, (carrier, place, *rest))
    return Form(node, _with(groups, place, after), _with(form.dims, dim, after))


def select(node: fx.Node, walk: Walk) -> Form | None:
    """select(x, dim, i) -> select(x', …) of the axis that carries it"""
    source, dim, index = node.args
    found = _axis(source, dim, walk)
    if found is None:
        return None
    form, groups = found
    place = groups.index(form.dims[dim])  # type: ignore[index]
    walk.become(node, aten.select.int, (walk.arranged(form, groups, node), place, index))
    dims = tuple(d for i, d in enumerate(form.dims) if i != dim)
    return Form(node, tuple(g for i, g in enumerate(groups) if i != place), dims)


def _axis(source: Any, dim: Any, walk: Walk) -> tuple[Form, Groups] | None:
    if not walk.is_turned(source):
        return None
    form = walk.form(source)
    groups = apart(form.groups, form.dims[dim]) if form.dims[dim] else None
    return None if groups is None else (form, groups)


def _with(groups: Groups, place: int, group: Group) -> Groups:
    return (*groups[:place], group, *groups[place + 1 :])


def attention(node: fx.Node, walk: Walk) -> Form | None:
    """sdpa(q, k, v) -> matmul(v', softmax(matmul(k, q') * scale) over the keys, which are the channel axis), ' with tokens last"""
    q, k, v, mask, dropout, causal = node.args
    if mask is not None or dropout or causal or "enable_gqa" in node.kwargs or not walk.tokens:
        return None
    forms = [walk.form(x) for x in (q, k, v)]  # type: ignore[arg-type]
    if any(len(f.dims) != 4 for f in forms):
        return None
    (batch, heads, tokens, depth), (keys, values) = forms[0].dims, (forms[1].dims[2], forms[2].dims[3])
    factor = node.kwargs.get("scale") or 1 / math.sqrt(size(depth))
    turned = [walk.arranged(f, (*f.dims[:2], f.dims[3], f.dims[2]), node) for f in (forms[0], forms[2])]
    scaled = walk.make(node, "scaled", aten.mul.Scalar, turned[0], factor)
    product = walk.make(
        node, "scores", aten.matmul.default, walk.arranged(forms[1], forms[1].dims, node), scaled
    )
    rows = walk.make(
        node, "rows", aten.reshape.default, product, literal(((*batch, *heads), keys, (), tokens))
    )
    shares = walk.make(node, "softmax", aten.softmax.int, rows, 1, None)
    spread = walk.make(node, "shares", aten.reshape.default, shares, literal((batch, heads, keys, tokens)))
    walk.become(node, aten.matmul.default, (turned[1], spread))
    return Form(node, (batch, heads, values, tokens), (batch, heads, tokens, values))


STARTS = (aten.linear.default, aten.scaled_dot_product_attention.default)
"""Operators without which there is nothing to do."""

_POINTWISE = (
    aten.relu.default,
    aten.gelu.default,
    aten.silu.default,
    aten.mish.default,
    aten.hardswish.default,
    aten.hardsigmoid.default,
    aten.hardtanh.default,
    aten.leaky_relu.default,
    aten.elu.default,
    aten.clamp.default,
    aten.sigmoid.default,
    aten.tanh.default,
    aten.softplus.default,
    aten.add.Scalar,
    aten.sub.Scalar,
    aten.mul.Scalar,
    aten.div.Scalar,
)
_BINARY = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
_VIEWS = (aten.reshape.default, aten.permute.default, aten.squeeze.dims, aten.unsqueeze.default)

RULES: Mapping[Any, Rule] = MappingProxyType(
    {
        aten.linear.default: linear,
        aten.layer_norm.default: layer_norm,
        aten.slice.Tensor: slice_,
        aten.select.int: select,
        aten.scaled_dot_product_attention.default: attention,
        **dict.fromkeys(_POINTWISE, pointwise),
        **dict.fromkeys(_BINARY, binary),
        **dict.fromkeys(_VIEWS, view),
    }
)
