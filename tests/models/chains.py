"""Very long networks: chains of conv, batch norm and relu, as modules and as programs built by hand."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from fxc.compiler.origin import Origin, set_origin
from fxc.compiler.program import InputSpec, OutputSpec, Program

aten = torch.ops.aten
CHANNELS = 4
"""Of every layer: the work of a layer must not hide what is spent around it."""
SIDE = 8


def chain(layers: int, *, channels: int = CHANNELS, seed: int = 0) -> nn.Module:
    """`layers` times conv 3x3, batch norm, relu, in eval mode; random numbers stay of size one through all of them.

    Takes a float32 batch [N, channels, H, W] and returns one of the same shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = [_block(channels) for _ in range(layers)]
    return nn.Sequential(*blocks).eval()


def _block(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        # Each output channel is mostly one input channel: the signal neither dies nor explodes over thousands of layers.
        conv.weight.mul_(0.01)
        conv.weight[range(channels), range(channels), 1, 1] = 1.0
        norm.running_mean.normal_(0.0, 0.01)
    return nn.Sequential(conv, norm, nn.ReLU())


def example(*, channels: int = CHANNELS, side: int = SIDE, batch: int = 1) -> torch.Tensor:
    """A float32 batch [batch, channels, side, side] for :func:`chain`."""
    return torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def chain_program(nodes: int, *, channels: int = CHANNELS, side: int = SIDE) -> Program:
    """A program of `nodes` operators (conv, batch norm, relu in turn) that no tracer ever saw, with fixed shapes.

    Every conv reads one of ten weights of its own name and shape [channels, channels, 1, 1]; every batch norm has its
    own four vectors.
    """
    graph, mode, tensors = fx.Graph(), FakeTensorMode(), {}
    value = mode.from_tensor(torch.zeros(1, channels, side, side))
    node = graph.placeholder("x")
    _describe(node, value, "x")
    vector = mode.from_tensor(torch.zeros(channels))
    matrix = mode.from_tensor(torch.zeros(channels, channels, 1, 1))
    generator = torch.Generator().manual_seed(0)
    for place in range(nodes):
        layer, kind = f"layers.{place // 3}", place % 3
        if kind == 0:
            weight = f"{layer}.conv.weight"
            tensors[weight] = torch.eye(channels).reshape(channels, channels, 1, 1) + 0.01 * torch.randn(
                channels, channels, 1, 1, generator=generator
            )
            read = _describe(graph.get_attr(weight), matrix, weight)
            args = (node, read, None, [1, 1], [0, 0], [1, 1], 1)
            node = _describe(graph.call_function(aten.conv2d.default, args), value, f"{layer}.conv")
        elif kind == 1:
            reads = []
            for word in ("weight", "bias", "running_mean", "running_var"):
                name = f"{layer}.bn.{word}"
                tensors[name] = torch.full((channels,), float(word in ("weight", "running_var")))
                reads.append(_describe(graph.get_attr(name), vector, name))
            args = (node, *reads, False, 0.1, 1e-5, False)
            node = _describe(graph.call_function(aten.batch_norm.default, args), value, f"{layer}.bn")
        else:
            node = _describe(graph.call_function(aten.relu.default, (node,)), value, f"{layer}.relu")
    graph.output((node,))
    shape = (1, channels, side, side)
    one = pytree.tree_structure(((0,), {}))
    return Program(
        fx.GraphModule(tensors, graph).eval(),
        (InputSpec("x", shape, "float32"),),
        (OutputSpec("output", shape, "float32"),),
        one,
        pytree.tree_structure(0),
        name="chain",
        example_inputs=(example(channels=channels, side=side),),
    )


def _describe(node: fx.Node, value: torch.Tensor, label: str) -> fx.Node:
    node.meta["val"] = value
    set_origin(node, Origin(label, (label,)))
    return node
