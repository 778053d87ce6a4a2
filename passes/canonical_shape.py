"""Canonical spellings of the operators that move data: reshape, permute, slice, select, expand, and those that do nothing."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.rule import Rule, producer
from fxc.passes.spelling import Call, Spelled, Spelling
from fxc.passes.values import (
    dtype,
    fixed,
    is_contiguous,
    is_tensor,
    plain_sizes,
    rank,
    same_layout,
    same_shape,
    same_size,
    same_tensor_type,
    shape,
)

aten = torch.ops.aten

RESHAPES = (
    aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.view_as.default, aten.reshape_as.default, aten._reshape_alias.default,
)  # fmt: skip
PERMUTES = (
    aten.permute.default, aten.transpose.int, aten.t.default, aten.movedim.int, aten.movedim.intlist,
    aten.moveaxis.int, aten.moveaxis.intlist, aten.swapaxes.default, aten.swapdims.default, aten.numpy_T.default,
    aten.mT.default,
)  # fmt: skip
COPIES = (
    aten.contiguous.default, aten.clone.default, aten.alias.default, aten.detach.default, aten.lift_fresh.default,
    aten.lift_fresh_copy.default, aten.positive.default,
)  # fmt: skip
CASTS = (
    aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten.to.other, aten._to_copy.default, aten.type_as.default,
)  # fmt: skip
SPLITS = (
    aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default, aten.tensor_split.sections,
    aten.tensor_split.indices, aten.unbind.int, aten.unsafe_split.Tensor, aten.unsafe_chunk.default,
)  # fmt: skip
_END = 9223372036854775807


def reshape(node: fx.Node, editor: Editor) -> Spelled:
    """Every reshape has literal sizes, with -1 for the one that is symbolic; sizes that need two symbols stay nodes."""
    source = node.args[0]
    sizes: Any = plain_sizes(node)
    if sizes is None:
        sizes = _given_sizes(node, editor)
    if sizes is None or (node.target is aten.reshape.default and list(node.args[1]) == sizes):
        return None
    return Call(aten.reshape.default, (source, sizes))


def _given_sizes(node: fx.Node, editor: Editor) -> list[Any] | None:
    if node.target in (aten.view.default, aten._unsafe_view.default, aten.reshape.default):
        return list(node.args[1])
    if node.target not in (aten.flatten.using_ints, aten.unflatten.int):
        return None
    source, old, new = node.args[0], shape(node.args[0]), shape(node)
    first = node.args[1]
    behind = len(new) - (
        len(old) - first - 1 if node.target is aten.unflatten.int else len(old) - node.args[2] - 1
    )
    kept = {i: i for i in range(first)} | {j: j - len(new) + len(old) for j in range(behind, len(new))}
    if any(fixed(new[i]) is None for i in range(len(new)) if i not in kept):
        # The merged size is the one that -1 leaves to be computed.
        return [_size(editor, source, kept[i]) if i in kept else -1 for i in range(len(new))]
    return [_size(editor, source, kept[i]) if i in kept else fixed(new[i]) for i in range(len(new))]


def _size(editor: Editor, source: fx.Node, dim: int) -> Any:
    size = fixed(shape(source)[dim])
    return (
        editor.call(aten.sym_size.int, (source, dim), origins=(source,), suffix=".size")
        if size is None
        else size
    )


def permute(node: fx.Node, editor: Editor) -> Spelled:
    """transpose, t, movedim, swapaxes -> permute(x, dims); permute(x, [0, 1, 2]) -> x"""
    source = node.args[0]
    if node.target is aten.permute.default:
        dims = list(node.args[1])
    else:
        # Sizes that are all different show where each dimension went.
        probe = torch.empty(tuple(range(2, rank(source) + 2)), device="meta")
        dims = [size - 2 for size in node.target(probe, *node.args[1:]).shape]
    if dims == list(range(rank(source))):
        return source
    return None if node.target is aten.permute.default else Call(aten.permute.default, (source, dims))


def permute_of_permute(node: fx.Node, editor: Editor) -> Spelled:
    """permute(permute(x, p), q) -> permute(x, [p[i] for i in q])"""
    inner = producer(node.args[0], aten.permute.default)
    if inner is None:
        return None
    return Call(aten.permute.default, (inner.args[0], [inner.args[1][i] for i in node.args[1]]))


def reshape_of_reshape(node: fx.Node, editor: Editor) -> Spelled:
    """reshape(reshape(x, a), b) -> reshape(x, b), where x is contiguous so that the strides stay what they are"""
    inner = _inner_reshape(node)
    if inner is None or not is_contiguous(inner.args[0]):
        return None
    return Call(aten.reshape.default, (inner.args[0], node.args[1]))


def _inner_reshape(node: fx.Node) -> fx.Node | None:
    inner = producer(node.args[0], aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dims)
    # The sizes must not be read from the inner node, or it stays alive for nothing.
    return inner if inner is not None and all(isinstance(size, int) for size in node.args[1]) else None


def no_reshape(node: fx.Node, editor: Editor) -> Spelled:
    """reshape(x, x.shape) -> x;  expand(x, x.shape) -> x"""
    return node.args[0] if same_shape(shape(node), shape(node.args[0])) else None


def copy(node: fx.Node, editor: Editor) -> Spelled:
    """contiguous(x), clone(x), alias(x), detach(x) -> x, where the strides stay the same"""
    return node.args[0] if same_layout(node, node.args[0]) else None


def cast(node: fx.Node, editor: Editor) -> Spelled:
    """to(x, x.dtype) -> x;  every other spelling of a cast -> aten.to.dtype(x, dtype)"""
    source = node.args[0]
    if same_tensor_type(node, source):
        return source if same_layout(node, source) else None
    if node.target is aten.to.dtype or node.meta["val"].device != source.meta["val"].device:
        return None
    return Call(aten.to.dtype, (source, dtype(node), False, False, None))


def no_slice(node: fx.Node, editor: Editor) -> Spelled:
    """slice(x, dim, 0, size, 1) -> x;  literal bounds are counted from the front and clipped"""
    source, dim, start, end, step = node.args
    size = fixed(shape(source)[dim])
    first, last = _bound(0 if start is None else start, size), _bound(_END if end is None else end, size)
    if first == 0 and step == 1 and (last == size if size is not None else last == _END):
        return source
    return None if (first, last) == (start, end) else Call(node.target, (source, dim, first, last, step))


def _bound(bound: Any, size: int | None) -> Any:
    if not isinstance(bound, int) or size is None:
        return bound
    return max(bound + size, 0) if bound < 0 else min(bound, size)


def select(node: fx.Node, editor: Editor) -> Spelled:
    """select(x, dim, -1) -> select(x, dim, size - 1)"""
    source, dim, index = node.args
    size = fixed(shape(source)[dim])
    if not isinstance(index, int) or index >= 0 or size is None:
        return None
    return Call(node.target, (source, dim, index + size))


def narrow(node: fx.Node, editor: Editor) -> Spelled:
    """narrow(x, dim, start, length) -> slice(x, dim, start, start + length, 1)"""
    source, dim, start, length = node.args
    if not (isinstance(start, int) and isinstance(length, int)) or start < 0:
        return None
    return Call(aten.slice.Tensor, (source, dim, start, start + length, 1))


def squeeze(node: fx.Node, editor: Editor) -> Spelled:
    """squeeze(x), squeeze(x, dim) -> squeeze.dims(x, [dims of size 1]);  x where there are none"""
    source = node.args[0]
    if node.target is aten.squeeze.default:
        wanted = list(range(rank(source)))
    else:
        wanted = [node.args[1]] if isinstance(node.args[1], int) else list(node.args[1])
    dims = [d for d in sorted(wanted) if fixed(shape(source)[d]) == 1]
    if not dims:
        return source
    if node.target is aten.squeeze.dims and dims == list(node.args[1]):
        return None
    return Call(aten.squeeze.dims, (source, dims))


def squeeze_of_unsqueeze(node: fx.Node, editor: Editor) -> Spelled:
    """squeeze.dims(unsqueeze(x, d), [d]) -> x"""
    inner = producer(node.args[0], aten.unsqueeze.default)
    return inner.args[0] if inner is not None and list(node.args[1]) == [inner.args[1]] else None


def expand(node: fx.Node, editor: Editor) -> Spelled:
    """expand_as(x, y) -> expand(x, sizes);  a size that expand leaves alone is -1"""
    source, new = node.args[0], shape(node)
    given = node.args[1] if node.target is aten.expand.default else [None] * len(new)
    added = len(new) - rank(source)
    sizes = []
    for i, (size, was) in enumerate(zip(new, given)):
        kept = i >= added and same_size(size, shape(source)[i - added])
        literal = -1 if kept else fixed(size)
        if literal is None:
            literal = was if isinstance(was, fx.Node) else _size(editor, node.args[1], i)
        sizes.append(literal)
    if node.target is aten.expand.default and sizes == list(given):
        return None
    return Call(aten.expand.default, (source, sizes))


def pad(node: fx.Node, editor: Editor) -> Spelled:
    """constant_pad_nd, reflection_padNd, replication_padNd -> pad(x, widths, mode, value);  pad(x, zeros) -> x"""
    source, widths = node.args[0], list(node.args[1])
    if not any(widths):
        return source
    if node.target is aten.pad.default:
        return None
    if node.target is aten.constant_pad_nd.default:
        return Call(aten.pad.default, (source, widths, "constant", float(node.args[2])))
    mode = "reflect" if node.target in _REFLECT else "replicate"
    return Call(aten.pad.default, (source, widths, mode, None))


def one_cat(node: fx.Node, editor: Editor) -> Spelled:
    """cat([x]) -> x"""
    return node.args[0][0] if len(node.args[0]) == 1 else None


class Pieces(Rule):
    """getitem(split(x, sizes, d), i) -> slice(x, d, start, end, 1);  getitem(unbind(x, d), i) -> select(x, d, i)"""

    name = "pieces"
    anchors = SPLITS

    def match(self, node: fx.Node, editor: Editor) -> Any:
        """A split whose pieces have fixed sizes and are read one by one."""
        dim = node.args[-1]
        sizes = [1 if node.target is aten.unbind.int else fixed(val.shape[dim]) for val in node.meta["val"]]
        picked = all(user.target is operator.getitem and isinstance(user.args[1], int) for user in node.users)
        return (node, dim, sizes) if picked and None not in sizes else None

    def rewrite(self, match: Any, editor: Editor) -> None:
        """Each piece by itself."""
        node, dim, sizes = match
        starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        for user in list(node.users):
            i = user.args[1] % len(sizes)
            if node.target is aten.unbind.int:
                editor.retarget(user, aten.select.int, (node.args[0], dim, i))
            else:
                editor.retarget(user, aten.slice.Tensor, (node.args[0], dim, starts[i], starts[i + 1], 1))
        editor.erase(node)


_REFLECT = (aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
_REPLICATE = (aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
_PADS = (aten.pad.default, aten.constant_pad_nd.default, *_REFLECT, *_REPLICATE)

RULES: tuple[Rule, ...] = (
    Pieces(),
    Spelling("reshape", RESHAPES, reshape),
    Spelling("reshape_of_reshape", (aten.reshape.default,), reshape_of_reshape),
    Spelling("no_reshape", (aten.reshape.default, aten.expand.default), no_reshape),
    Spelling("permute", PERMUTES, permute),
    Spelling("permute_of_permute", (aten.permute.default,), permute_of_permute),
    Spelling("copy", COPIES, copy),
    Spelling("cast", CASTS, cast),
    Spelling("narrow", (aten.narrow.default,), narrow),
    Spelling("select", (aten.select.int,), select),
    Spelling("no_slice", (aten.slice.Tensor,), no_slice),
    Spelling("squeeze", (aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims), squeeze),
    Spelling("squeeze_of_unsqueeze", (aten.squeeze.dims,), squeeze_of_unsqueeze),
    Spelling("expand", (aten.expand_as.default, aten.expand.default), expand),
    Spelling("pad", _PADS, pad),
    Spelling("one_cat", (aten.cat.default,), one_cat),
)


def _any_reshape_of_reshape(node: fx.Node, editor: Editor) -> Spelled:
    """reshape(reshape(x, a), b) -> reshape(x, b)"""
    inner = _inner_reshape(node)
    return None if inner is None else Call(aten.reshape.default, (inner.args[0], node.args[1]))


def _any_copy(node: fx.Node, editor: Editor) -> Spelled:
    """contiguous(x), clone(x) -> x"""
    return node.args[0] if is_tensor(node.args[0]) and same_tensor_type(node, node.args[0]) else None


LAYOUT_RULES: tuple[Rule, ...] = (
    Spelling("reshape_of_reshape", (aten.reshape.default,), _any_reshape_of_reshape),
    Spelling("copy", (*COPIES, *CASTS), _any_copy),
)
"""Rules that may change strides, so that a later operator may add in another order."""
