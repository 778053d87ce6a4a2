"""What keeps layers off the Neural Engine, or makes them slow there: findings, each with its remedy. None is an error.

Sources: Apple's published rules for its Neural Engine (strides made of 2 and 3, the last axis padded to 64 bytes, float16 and
integers only), and for large kernels the advice to split them. What a device really does with a layer only Xcode tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from fxc.compiler.macs import CONVOLUTIONS, TRANSPOSED, macs
from fxc.compiler.origin import op_name
from fxc.compiler.target import Target

_KERNEL = 13
"""Sides above it leave the engine for pools, by what people found; for convolutions Apple advises to split large ones."""
_POOLS = ("max_pool2d", "avg_pool2d")


def findings(node: fx.Node, target: Target) -> Iterator[tuple[str, str]]:
    """Rule and remedy, for one node of a program."""
    name = op_name(node)
    if target.precision == "fp32":
        return  # the Neural Engine has no float32: nothing of such a program runs there
    if node.target in CONVOLUTIONS or node.target in TRANSPOSED:
        yield from _strides(node, 3, (2, 3))
        weight: Any = node.args[1]
        yield from _sides(weight.meta["val"].shape[2:])
    elif name in _POOLS:
        yield from _strides(node, 2, (2,))
        yield from _sides(_numbers(node, 1))
    if macs(node) > 0:
        yield from _last_axis(node)


def _strides(node: fx.Node, index: int, factors: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    for stride in _numbers(node, index):
        rest = stride
        for factor in factors:
            while rest > 1 and rest % factor == 0:
                rest //= factor
        if rest > 1:
            words = " and ".join(map(str, factors))
            yield (
                f"a stride of {stride} is not made of {words}: the layer may leave the Neural Engine",
                f"use a stride made of {words}, or a pixel unshuffle before a stride of 1",
            )
            return


def _sides(kernel: Any) -> Iterator[tuple[str, str]]:
    if any(int(side) > _KERNEL for side in kernel):
        yield (
            f"a kernel of {' x '.join(map(str, kernel))} is large for the Neural Engine",
            "replace it by several smaller ones: k1 and then k2 reach k1 + k2 - 1",
        )


def _last_axis(node: fx.Node) -> Iterator[tuple[str, str]]:
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor) and value.dim() > 2 and value.shape[-1] == 1 and value.shape[-2] != 1:
        yield (
            "the last axis has size 1: the Neural Engine pads it to 64 bytes",
            "put the long axis last",
        )


def _numbers(node: fx.Node, index: int) -> list[int]:
    value = node.args[index] if len(node.args) > index else ()
    listed = value if isinstance(value, (tuple, list)) else (value,)
    return [v for v in listed if isinstance(v, int)]
