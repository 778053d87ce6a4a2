"""Convolutions whose weights are laid out once, for a program that runs many times on this CPU.

PyTorch hands every convolution to oneDNN, which first copies the weights into the order that its kernel reads: for a
network with many of them and few samples a fifth of the time. PyTorch's compiler packs them beforehand; so does this,
with the operators that it uses. Where PyTorch was built without them, or the weights are too large to have twice, the
convolutions run as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from fxc.compiler.program import Program

_LIMIT = 256 << 20
"""Bytes of weights that may be in memory twice."""

Call = Callable[..., Any]


def prepacked(program: Program, batch: int) -> dict[fx.Node, Call]:
    """What to call in the place of convolutions, each with the same arguments, for :func:`fxc.compiler.execute.steps`.

    Args:
        batch: samples in a run; another number works too, but not as fast.

    Returns:
        Calls by node; they hold copies of the weights as they are now.
    """
    pack = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
    run = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if pack is None or run is None or not torch.backends.mkldnn.is_available():
        return {}
    weights = {n: w for n in program.graph.nodes if (w := _weight(program, n)) is not None}
    if sum(w.numel() * w.element_size() for w in weights.values()) > _LIMIT:
        return {}
    return {node: _call(pack, run, node, weight, batch) for node, weight in weights.items()}


def _weight(program: Program, node: fx.Node) -> Tensor | None:
    """The weight of a convolution that can be packed: float32, on the CPU, of a batch of images."""
    if node.target is not torch.ops.aten.conv2d.default:
        return None
    source, weight = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    assert isinstance(weight, fx.Node)
    if weight.op != "get_attr" or source.meta["val"].dim() != 4:
        return None
    value = program.tensor(str(weight.target)).detach()
    return value if value.dtype is torch.float32 and value.device.type == "cpu" else None


def _call(pack: Call, run: Call, node: fx.Node, weight: Tensor, batch: int) -> Call:
    stride, padding, dilation, groups = node.args[3:7]
    shape = [size if isinstance(size, int) else batch for size in node.args[0].meta["val"].shape]  # type: ignore[union-attr]
    with torch.no_grad():
        packed = pack(weight.to_mkldnn(), padding, stride, dilation, groups, shape)

    def convolution(x: Tensor, _weight: Tensor, bias: Tensor | None, *_: Any) -> Tensor:
        return run(x, packed, bias, padding, stride, dilation, groups, "none", [], "")

    return convolution
