"""Labels of operators that move a window over the last dimensions: pooling, resizing, padding, pixel shuffle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from fxc.compiler.origin import op_name
from fxc.passes.prune.atoms import Dims, Label
from fxc.passes.prune.flow import Flow, Rule, int_argument, list_argument, tensor_argument

aten = torch.ops.aten


def over_last(count: int) -> Callable[[Flow, fx.Node], Dims]:
    """The rule of an operator that mixes the last ``count`` dimensions and leaves the others alone."""

    def label(flow: Flow, node: fx.Node) -> Dims:
        dims = flow.of(tensor_argument(node))
        flow.atoms.pin(dims[-count:], f"is an axis that {op_name(node)} moves along", node)
        for other in node.all_input_nodes[1:]:
            flow.atoms.pin(flow.of(other), f"says where {op_name(node)} looks", node)
        return (*dims[:-count], *(None for _ in range(count)))

    return label


def pad(flow: Flow, node: fx.Node) -> Dims:
    """pad(x, widths): what is put around a dimension stays; the channels between may go."""
    dims, widths = list(flow.of(tensor_argument(node))), list_argument(node, 1)
    constant = node.args[2] == "constant"
    for back in range(1, len(widths) // 2 + 1):
        before, after = widths[2 * back - 2 : 2 * back]
        if before == after == 0:
            continue
        label = dims[-back]
        if constant and label is not None and min(before, after) >= 0:
            dims[-back] = np.concatenate([_kept(flow, node, before), label, _kept(flow, node, after)])
        else:
            flow.atoms.pin((label,), "is padded from its own values", node)
            dims[-back] = None
    return tuple(dims)


def _kept(flow: Flow, node: fx.Node, count: int) -> Any:
    """Atoms that stay."""
    flow.atoms.count += count
    atoms = np.arange(flow.atoms.count - count, flow.atoms.count, dtype=np.int64)
    flow.atoms.pin((atoms,), "is padding", node)
    return atoms


def pixel_shuffle(flow: Flow, node: fx.Node) -> Dims:
    """[…, c·r², h, w] -> […, c, h·r, w·r]: the r² channels of an output channel go together."""
    dims, factor = flow.of(tensor_argument(node)), int_argument(node, 1)
    flow.atoms.pin(dims[-2:], "is an axis of the image", node)
    label: Label = None if dims[-3] is None else flow.atoms.tie_all(dims[-3].reshape(-1, factor**2), node)
    return (*dims[:-3], _several(flow, node, label), None, None)


def pixel_unshuffle(flow: Flow, node: fx.Node) -> Dims:
    """[…, c, h·r, w·r] -> […, c·r², h, w]: each channel becomes r² that follow each other."""
    dims, factor = flow.of(tensor_argument(node)), int_argument(node, 1)
    flow.atoms.pin(dims[-2:], "is an axis of the image", node)
    return (*dims[:-3], None if dims[-3] is None else dims[-3].repeat(factor**2), None, None)


def channel_shuffle(flow: Flow, node: fx.Node) -> Dims:
    """[n, g·c, …] -> [n, c·g, …]: each of the g blocks loses the same positions."""
    dims, groups = flow.of(tensor_argument(node)), int_argument(node, 1)
    if dims[1] is None:
        return dims
    blocks = dims[1].reshape(groups, -1)
    flow.atoms.tie_all(blocks.T, node)
    return (dims[0], blocks.T.ravel(), *dims[2:])


def unfold(flow: Flow, node: fx.Node) -> Dims:
    """im2col: [n, c, h, w] -> [n, c·kernel, positions]."""
    dims, kernel = flow.of(tensor_argument(node)), list_argument(node, 1)
    flow.atoms.pin(dims[-2:], "is an axis of the image", node)
    label = dims[-3]
    return (*dims[:-3], None if label is None else label.repeat(int(np.prod(kernel))), None)


def fold(flow: Flow, node: fx.Node) -> Dims:
    """col2im: [n, c·kernel, positions] -> [n, c, h, w]."""
    dims, kernel = flow.of(tensor_argument(node)), list_argument(node, 2)
    flow.atoms.pin(dims[-1:], "is an axis of the image", node)
    label: Label = dims[-2]
    if label is not None:
        label = flow.atoms.tie_all(label.reshape(-1, int(np.prod(kernel))), node)
    return (*dims[:-2], _several(flow, node, label), None, None)


def _several(flow: Flow, node: fx.Node, label: Label) -> Label:
    if label is not None and len(label) == 1:
        flow.atoms.pin((label,), "is one channel", node)
        return None
    return label


_LAST = {
    1: (aten.adaptive_avg_pool1d.default, aten.adaptive_max_pool1d.default, aten.avg_pool1d.default,
        aten.max_pool1d.default, aten.upsample_nearest1d.vec, aten.upsample_linear1d.vec),
    2: (aten.adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default, aten.avg_pool2d.default,
        aten.max_pool2d.default,
        aten.max_pool2d_with_indices.default, aten.upsample_nearest2d.vec, aten.upsample_bilinear2d.vec,
        aten.upsample_bicubic2d.vec, aten._upsample_nearest_exact2d.vec, aten._upsample_bilinear2d_aa.vec,
        aten.grid_sampler_2d.default, aten.grid_sampler.default),
    3: (aten.adaptive_avg_pool3d.default, aten.avg_pool3d.default, aten.max_pool3d.default,
        aten.upsample_nearest3d.vec, aten.upsample_trilinear3d.vec),
}  # fmt: skip

RULES = {
    **{op: Rule(over_last(count)) for count, ops in _LAST.items() for op in ops},
    aten.pad.default: Rule(pad),
    aten.pixel_shuffle.default: Rule(pixel_shuffle),
    aten.pixel_unshuffle.default: Rule(pixel_unshuffle),
    aten.channel_shuffle.default: Rule(channel_shuffle),
    aten.im2col.default: Rule(unfold),
    aten.col2im.default: Rule(fold),
}
