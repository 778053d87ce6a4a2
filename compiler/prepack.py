"""Convolutions whose weights are laid out once, for a program that runs many times on this CPU.

PyTorch hands every convolution to oneDNN, which first copies the weights into the order that its kernel reads: for a
network with many of them and few samples a fifth of the time. PyTorch's compiler packs them beforehand, and lets the
kernel do the ReLU and the addition that follow while its result is still in the cache; so does this, with the operators
that it uses. Where PyTorch was built without them, or the weights are too large to have twice, the convolutions run as
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.program import Program

_LIMIT = 256 << 20
"""Bytes of weights that may be in memory twice."""

Call = Callable[..., Any]
aten = torch.ops.aten


class Packed:
    """A program's convolutions with the weights that they have now, for :func:`fxc.compiler.execute.steps`."""

    def __init__(self, program: Program, batch: int):
        """Lay out the weights.

        Args:
            batch: samples in a run; another number works too, but not as fast.
        """
        fitting = _fitting(program)
        self._weights = {node: _packed(node, weight, batch) for node, weight in fitting.items()}

    def calls(self, seen: Collection[str]) -> dict[fx.Node, Call]:
        """What to call in the place of nodes, each with the node's own arguments.

        Args:
            seen: names of the nodes whose values matter to the caller; others may have none of their own.
        """
        calls: dict[fx.Node, Call] = {}
        # The last one first: of two convolutions that are added, it is the one that the addition is made part of.
        for node in reversed(self._weights):
            calls.update(self._fused(node, seen, calls))
        return calls

    def _fused(self, node: fx.Node, seen: Collection[str], taken: Collection[fx.Node]) -> dict[fx.Node, Call]:
        """One convolution, with the nodes that its kernel does on the way."""
        layer = _Layer(self._weights[node], *node.args[3:7])
        after = _only_reader(node, seen)
        joins = after is not None and after not in taken and _is_sum(after, node)
        last = _only_reader(after, seen) if joins and after is not None else after
        bound = _bound(last)
        calls: dict[fx.Node, Call] = {}
        if joins and after is not None:
            calls.update({node: _Delayed, after: layer.summed(bound)})
        else:
            calls[node] = layer.alone(bound)
        if last is not None and bound is not None:
            calls[last] = _itself
        return calls


@dataclass(frozen=True)
class _Bound:
    """An activation that a kernel applies to its result: the same numbers as PyTorch's."""

    kind: str = "none"
    limits: tuple[float, ...] = ()


class _Delayed:
    """The arguments of a convolution that the addition behind it runs."""

    def __init__(self, x: Tensor, _weight: Tensor, bias: Tensor | None, *_: Any):
        self.x, self.bias = x, bias


@dataclass(frozen=True)
class _Layer:
    weight: Tensor
    stride: Any
    padding: Any
    dilation: Any
    groups: Any

    def alone(self, bound: _Bound | None) -> Call:
        end, run = bound or _Bound(), torch.ops.mkldnn._convolution_pointwise.default
        rest = (self.padding, self.stride, self.dilation, self.groups, end.kind, [*end.limits], "")

        def convolution(x: Tensor, _weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
            return run(x, self.weight, bias, *rest)

        return convolution

    def summed(self, bound: _Bound | None) -> Call:
        run = torch.ops.mkldnn._convolution_pointwise.binary
        ends = (None, [], None) if bound is None else (bound.kind, [*bound.limits], "")
        rest = (self.padding, self.stride, self.dilation, self.groups, "add", 1.0, *ends)

        def convolution(a: Any, b: Any, **_: Any) -> Tensor:
            first, other = (a, b) if isinstance(a, _Delayed) else (b, a)
            return run(first.x, other, self.weight, first.bias, *rest)

        return convolution


def _itself(x: Tensor, *_: Any) -> Tensor:
    return x


def _only_reader(node: fx.Node, seen: Collection[str]) -> fx.Node | None:
    """The one node that reads ``node``, if nobody else wants its value."""
    return next(iter(node.users)) if len(node.users) == 1 and node.name not in seen else None


def _bound(node: fx.Node | None) -> _Bound | None:
    if node is None:
        return None
    if node.target is aten.relu.default:
        return _Bound("relu")
    if node.target is aten.hardtanh.default and all(type(limit) in (int, float) for limit in node.args[1:3]):
        return _Bound("hardtanh", tuple(float(limit) for limit in node.args[1:3]))  # type: ignore[arg-type]
    return None


def _is_sum(node: fx.Node, part: fx.Node) -> bool:
    """Whether ``node`` adds ``part`` and another tensor of its shape."""
    if node.target is not aten.add.Tensor or node.kwargs.get("alpha", 1) != 1:
        return False
    operands = node.args[:2]
    if not all(isinstance(n, fx.Node) and _is_image(n) for n in operands) or operands[0] is operands[1]:
        return False
    shapes = {tuple(map(str, n.meta["val"].shape)) for n in (*operands, node)}  # type: ignore[union-attr]
    return len(shapes) == 1 and part in operands


def _is_image(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dtype is torch.float32 and value.dim() == 4


def _fitting(program: Program) -> dict[fx.Node, Tensor]:
    """The weights that can be packed, none if they are too large together."""
    usable = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and hasattr(torch.ops, "mkldnn")
    if not usable or not torch.backends.mkldnn.is_available():
        return {}
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return {}
    weights = {n: w for n in program.graph.nodes if (w := _weight(program, n)) is not None}
    return weights if sum(w.numel() * w.element_size() for w in weights.values()) <= _LIMIT else {}


def _weight(program: Program, node: fx.Node) -> Tensor | None:
    """The weight of a convolution that can be packed: float32, on the CPU, of a batch of images."""
    if node.target is not aten.conv2d.default:
        return None
    source, weight = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    if weight.op != "get_attr" or source.meta["val"].dim() != 4:
        return None
    value = program.tensor(str(weight.target)).detach()
    return value if value.dtype is torch.float32 and value.device.type == "cpu" else None


def _packed(node: fx.Node, weight: Tensor, batch: int) -> Tensor:
    stride, padding, dilation, groups = node.args[3:7]
    shape = [size if isinstance(size, int) else batch for size in node.args[0].meta["val"].shape]  # type: ignore[union-attr]
    with torch.no_grad():
        pack: Call = torch._C._nn.mkldnn_reorder_conv2d_weight
        packed: Tensor = pack(weight.to_mkldnn(), padding, stride, dilation, groups, shape)
    return packed
