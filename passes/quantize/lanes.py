"""Channel lanes: which channels of a program may be rescaled together without changing what it computes.

A *lane* is a factor s > 0 by which one channel may be multiplied wherever it appears. A convolution or linear layer ends the
lanes that it reads (its columns take 1 / s) and starts new ones (its rows take s). What lies between and commutes with a
positive factor (ReLU, pooling, data movement, averages) hands a lane on, an addition ties its operands' lanes together, and
everything else pins its lanes to 1: any lane of a SiLU's input, of the program's inputs and outputs. Pairs, chains through
depthwise convolutions, residual streams, concatenations and the value path of attention are all instances of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.macs import CONVOLUTIONS, LINEAR
from fxc.passes.fold_batch_norm import readers, storage
from fxc.passes.quantize.lane_sets import PIN, Lanes, Union
from fxc.passes.values import is_floating, is_tensor

aten = torch.ops.aten

_ANY = 2
"""Stands for every symbolic size: two, so that what mixes samples does not look like a channel."""


@dataclass(frozen=True)
class Site:
    """A node whose constants take factors: ``value * made / read``, along the axes that the operator says.

    Attributes:
        node: convolution, linear, layer norm, or a product or sum with a constant.
        read: lanes of its input's channels, ``[C]``; ``None`` where its constants do not read them.
        made: lanes of its output's channels, ``[C]``.
    """

    node: fx.Node
    read: Lanes | None
    made: Lanes


class LaneMap:
    """Lanes of every tensor of a graph.

    Attributes:
        lanes: node to its lanes (before :meth:`fxc.passes.quantize.lane_sets.Union.find`).
        sites: nodes whose constants take factors.
        blocked: layers whose output lanes a node pinned that does not commute with a factor, and that node.
    """

    def __init__(self, editor: Editor):
        self.editor, self.union = editor, Union()
        self.lanes: dict[fx.Node, Lanes] = {}
        self.sites: list[Site] = []
        self.blocked: dict[fx.Node, fx.Node] = {}
        self._uses = readers(editor)
        for node in editor.graph.nodes:
            self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        if node.op == "call_function" and is_tensor(node) and is_floating(node):
            rule = _RULES.get(node.target)
            lanes = rule(self, node) if rule is not None else None
            if lanes is not None:
                self.lanes[node] = lanes
                return
        for source in node.all_input_nodes:
            self._pin(source, node)
        if is_tensor(node):
            self.lanes[node] = _pinned(node)

    def _pin(self, source: fx.Node, by: fx.Node) -> None:
        lanes = self.lanes.get(source)
        if lanes is None:
            return
        if by.op == "call_function" and source.target in (*CONVOLUTIONS, *LINEAR) and lanes.any():
            self.blocked.setdefault(source, by)
        self.union.pin(lanes)

    def of(self, node: Any) -> Lanes:
        """Current lanes of a tensor."""
        lanes = self.lanes.get(node) if isinstance(node, fx.Node) else None
        return self.union.find(lanes) if lanes is not None else np.full(1, PIN, dtype=np.int64)

    def along(self, node: fx.Node, axis: int) -> Lanes | None:
        """Lanes ``[C]`` along one axis; ``None`` where they change along another axis too."""
        lanes = self.of(node)
        axis %= lanes.ndim
        if any(size != 1 for d, size in enumerate(lanes.shape) if d != axis):
            return None
        return np.broadcast_to(lanes.ravel(), (_sizes(node)[axis],))

    def own(self, *constants: Any) -> bool:
        """Whether these are parameters that only one node reads (``None`` counts as such)."""
        for constant in constants:
            if constant is None:
                continue
            if not isinstance(constant, fx.Node) or constant.op != "get_attr" or not is_floating(constant):
                return False
            if self._uses[storage(self.editor.tensor(constant))] > 1:
                return False
        return True

    def fresh(self, node: fx.Node, axis: int, count: int) -> Lanes:
        """New lanes along ``axis`` of ``node``'s value."""
        shape = [1] * node.meta["val"].dim()
        shape[axis] = count
        return self.union.fresh(count).reshape(shape)


# -- rules: the lanes of a node's value; None if the node does not commute with factors ------------------------------


def _layer(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """conv, linear: columns read, rows make."""
    x, weight, bias = node.args[:3]
    assert isinstance(x, fx.Node)
    axis = -1 if node.target in LINEAR else 1 - (node.meta["val"].dim() == weight.meta["val"].dim() - 1)
    if not lanes.own(weight, bias):
        return None
    read = lanes.along(x, axis)
    if read is None:
        lanes.union.pin(lanes.of(x))
        read = np.full(_sizes(x)[axis], PIN, dtype=np.int64)
    made = lanes.fresh(node, axis, int(weight.meta["val"].shape[0]))
    lanes.sites.append(Site(node, read, made.ravel()))
    return made


def _layer_norm(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """layer_norm(x, [C], w, b): whatever comes in is normalised, w and b make."""
    x, shape, weight, bias = node.args[:4]
    if (
        not isinstance(shape, (list, tuple))
        or len(shape) != 1
        or weight is None
        or not lanes.own(weight, bias)
    ):
        return None
    lanes.union.pin(lanes.of(x))
    made = lanes.fresh(node, -1, _sizes(node)[-1])
    lanes.sites.append(Site(node, None, made.ravel()))
    return made


def _product(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """x * c keeps lanes for a number, ends and starts them for a constant; x * y keeps x's where y has none."""
    x, y = node.args[:2]
    if not isinstance(y, fx.Node):
        return lanes.of(x) if _positive_number(y) else None
    constant = _channel_constant(lanes, node, y)
    if constant is not None:
        read = lanes.along(x, constant)  # type: ignore[arg-type]
        if read is None:
            return None
        made = lanes.fresh(node, constant, read.size)
        lanes.sites.append(Site(node, read, made.ravel()))
        return made
    for a, b in ((x, y), (y, x)):
        if not lanes.of(b).any():
            return _broadcast(lanes.of(a), node)
    return None


def _quotient(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """x / number."""
    return lanes.of(node.args[0]) if _positive_number(node.args[1]) else None


def _sum(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """x + y ties both; a constant per channel goes along."""
    x, y = node.args[:2]
    if not isinstance(x, fx.Node) or not isinstance(y, fx.Node) or _alpha(node) != 1:
        return None
    constant = _channel_constant(lanes, node, y)
    if constant is not None:
        made = lanes.along(x, constant)
        if made is None:
            return None
        lanes.sites.append(Site(node, None, made))
        return _broadcast(lanes.of(x), node)
    a, b = lanes.of(x), lanes.of(y)
    # Broadcasting repeats one channel over many: those would need one factor, which tying gives them.
    lanes.union.tie(*_aligned(a, b))
    return _broadcast(lanes.of(x if a.size >= b.size else y), node)


def _through(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """relu, pooling, resizing: f(s x) = s f(x), channel by channel."""
    return lanes.of(node.args[0])


def _along_pixels(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """A mean, sum, roll or padding along axes on which lanes do not change."""
    found = lanes.of(node.args[0])
    axes = _axes(node, found.ndim)
    if axes is None or any(found.shape[d] != 1 for d in axes):
        return None
    if node.target in _REDUCTIONS and not node.args[2]:
        return found.reshape([size for d, size in enumerate(found.shape) if d not in axes])
    return found


def _axes(node: fx.Node, rank: int) -> list[int] | None:
    if node.target is aten.pad.default:
        pads, mode, value = node.args[1:4]
        if mode != "constant" or value not in (None, 0, 0.0):
            return None
        return [rank - 1 - i // 2 for i, p in enumerate(pads) if p]  # type: ignore[arg-type,union-attr,misc]
    if node.target is aten.roll.default:
        return [d % rank for d in node.args[2]] or None  # type: ignore[union-attr,operator]
    dims = node.args[1]
    return [d % rank for d in dims] if dims else list(range(rank))  # type: ignore[union-attr,operator]


def _concat(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """cat: lanes side by side, or tied along another axis."""
    parts = list(node.args[0])  # type: ignore[arg-type]
    axis = int(node.args[1]) % node.meta["val"].dim()  # type: ignore[call-overload]
    found = []
    for part in parts:
        shape = list(lanes.of(part).shape)
        shape[axis] = _sizes(part)[axis]
        found.append(np.broadcast_to(lanes.of(part), shape))
    others = [tuple(size for d, size in enumerate(f.shape) if d != axis) for f in found]
    if len(set(others)) > 1:
        full = np.broadcast_shapes(*((*o[:axis], 1, *o[axis:]) for o in others))
        found = [np.broadcast_to(f, (*full[:axis], f.shape[axis], *full[axis + 1 :])) for f in found]
    return _compressed(np.concatenate(found, axis))


def _values(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """Attention: an average over positions keeps the values' lanes where they do not change with the position."""
    weights, values = node.args[:-1], node.args[-1]
    if node.target is aten.scaled_dot_product_attention.default:
        weights, values = (*node.args[:2], node.args[3]), node.args[2]
    found = lanes.of(values)
    if found.ndim < 2 or found.shape[-2] != 1 or found.ndim != node.meta["val"].dim():
        return None
    for weight in weights:
        if isinstance(weight, fx.Node):
            lanes.union.pin(lanes.of(weight))
    return lanes.of(values)


def _moved(lanes: LaneMap, node: fx.Node) -> Lanes | None:
    """reshape, permute and the like move lane numbers as they move values."""
    x = node.args[0]
    found = lanes.of(x)
    if not found.any():
        return _pinned(node)
    rank = found.ndim
    match node.target:
        case aten.permute.default:
            return found.transpose([d % rank for d in node.args[1]])  # type: ignore[union-attr,operator]
        case aten.unsqueeze.default:
            return np.expand_dims(found, int(node.args[1]) % (rank + 1))  # type: ignore[call-overload]
        case aten.squeeze.dims:
            axes = [d % rank for d in node.args[1]]  # type: ignore[union-attr,operator]
            return found.reshape([s for d, s in enumerate(found.shape) if d not in axes or _sizes(x)[d] != 1])
    full = np.broadcast_to(found, _sizes(x))
    if node.target is aten.reshape.default:
        return _compressed(full.reshape(_sizes(node)))
    if any(isinstance(a, fx.Node) for a in node.args[1:]):
        return None
    return _compressed(node.target(torch.from_numpy(full.copy()), *node.args[1:]).numpy())  # type: ignore[operator]


_REDUCTIONS = (aten.mean.dim, aten.sum.dim_IntList)
_RULES: dict[Any, Callable[[LaneMap, fx.Node], Lanes | None]] = {
    **dict.fromkeys((*CONVOLUTIONS, *LINEAR), _layer),
    aten.layer_norm.default: _layer_norm,
    aten.mul.Tensor: _product,
    aten.div.Tensor: _quotient,
    aten.add.Tensor: _sum,
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.leaky_relu.default,
            aten.dropout.default,
            aten.max_pool1d.default,
            aten.max_pool2d.default,
            aten.max_pool3d.default,
            aten.avg_pool1d.default,
            aten.avg_pool2d.default,
            aten.avg_pool3d.default,
            aten.adaptive_avg_pool1d.default,
            aten.adaptive_avg_pool2d.default,
            aten.adaptive_avg_pool3d.default,
            aten.upsample_nearest2d.vec,
            aten.upsample_bilinear2d.vec,
        ),
        _through,
    ),
    **dict.fromkeys((*_REDUCTIONS, aten.roll.default, aten.pad.default), _along_pixels),
    aten.cat.default: _concat,
    **dict.fromkeys(
        (aten.matmul.default, aten.bmm.default, aten.scaled_dot_product_attention.default), _values
    ),
    **dict.fromkeys(
        (
            aten.reshape.default,
            aten.permute.default,
            aten.squeeze.dims,
            aten.unsqueeze.default,
            aten.select.int,
            aten.slice.Tensor,
        ),
        _moved,
    ),
}


# -- helpers ---------------------------------------------------------------------------------------------------------


def _pinned(node: fx.Node) -> Lanes:
    return np.full([1] * node.meta["val"].dim(), PIN, dtype=np.int64)


def _sizes(node: Any) -> list[int]:
    """The node's shape with every symbol at :data:`_ANY`."""
    return [_number(d) for d in node.meta["val"].shape]


def _number(dim: Any) -> int:
    if isinstance(dim, int):
        return dim
    expression = dim.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, _ANY)))


def _compressed(lanes: Lanes) -> Lanes:
    for axis in range(lanes.ndim):
        first = lanes.take([0], axis) if lanes.shape[axis] > 1 else lanes
        if first is not lanes and bool((lanes == first).all()):
            lanes = first
    return np.ascontiguousarray(lanes)


def _aligned(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    rank = max(a.ndim, b.ndim)
    return a.reshape([1] * (rank - a.ndim) + list(a.shape)), b.reshape([1] * (rank - b.ndim) + list(b.shape))


def _broadcast(lanes: Lanes, node: fx.Node) -> Lanes:
    return lanes.reshape([1] * (node.meta["val"].dim() - lanes.ndim) + list(lanes.shape))


def _positive_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _alpha(node: fx.Node) -> Any:
    return node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)


def _channel_constant(lanes: LaneMap, node: fx.Node, constant: fx.Node) -> int | None:
    """The axis of ``node`` along which ``constant`` has one value per channel, if only ``node`` reads it."""
    if constant.op != "get_attr" or not lanes.own(constant) or len(constant.users) > 1:
        return None
    shape = list(constant.meta["val"].shape)
    rank = node.meta["val"].dim()
    wide = [d for d, size in enumerate(shape) if size != 1]
    if len(wide) != 1:
        return None
    axis = wide[0] + rank - len(shape)
    return (
        axis
        if shape[wide[0]] == _sizes(node)[axis] and node.meta["val"].shape[axis] == shape[wide[0]]
        else None
    )


def tensors_between(lanes: LaneMap) -> Iterator[tuple[fx.Node, Lanes]]:
    """Tensors that have a free lane and are coded as one: what layers and sums read."""
    seen: set[fx.Node] = set()
    for site in lanes.sites:
        if site.read is not None:
            seen.add(site.node.all_input_nodes[0])
    for node in lanes.lanes:
        if node.target is aten.add.Tensor:
            seen.update(node.all_input_nodes)
    for node in lanes.lanes:
        if node in seen and lanes.of(node).any():
            yield node, lanes.of(node)
