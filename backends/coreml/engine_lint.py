"""What keeps layers off the Neural Engine, or makes them slow there: findings, each with its remedy. None is an error.

Sources: Apple's published rules for its Neural Engine (at most five dimensions of fixed sizes; float16 and integers of 8 and 16
bits; the last axis padded to 64 bytes and best left alone; linear layers as 1x1 convolutions over [B, C, 1, S], softmax over
the channels; strides made of 2 and 3; large kernels split). The limit for windows is what people found. What a device really
does with a layer only Xcode tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

from fxc.backends.coreml.forms import sizes_of
from fxc.compiler.macs import CONVOLUTIONS, LINEAR, TRANSPOSED, macs
from fxc.compiler.origin import op_name
from fxc.compiler.program import Program
from fxc.compiler.target import Target

aten = torch.ops.aten

KERNEL = 13
"""Sides above it leave the engine for pools, by what people found; for convolutions Apple advises to split large ones."""
RANK = 5
_POOLS = (aten.max_pool2d.default, aten.avg_pool2d.default)
_DTYPES = (torch.float16, torch.float32, torch.bfloat16, torch.int8, torch.uint8, torch.int16)
"""What the engine computes in, and float32, which the converter makes float16."""

Finding = tuple[str, str]


def findings(node: fx.Node, target: Target) -> Iterator[Finding]:
    """Rule and remedy, for one node of a program."""
    if target.precision == "fp32" or node.op != "call_function":
        return  # the Neural Engine has no float32: nothing of such a program runs there
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        yield from _rank(value)
        yield from _dtype(value)
        yield from _last_axis(node, value, target)
    yield from _windows(node, target)
    yield from _layout(node, target)


def input_findings(program: Program, target: Target) -> Iterator[tuple[str, str, str]]:
    """Input, rule and remedy, for inputs without a fixed size in the file."""
    batches = target.options.get("batches")
    if batches is not None and target.precision != "fp32":
        for spec in program.tensor_inputs:
            if spec.shape and isinstance(spec.shape[0], str):
                rule = f"its batch is any of {batches}: the Neural Engine wants fixed shapes"
                yield spec.name, rule, "one batch (leave --batches out), or a model for each"


def leftover(number: int, factors: tuple[int, ...]) -> int:
    """What is left of a number when it is divided by ``factors`` as often as they divide it."""
    for factor in factors:
        while number > 1 and number % factor == 0:
            number //= factor
    return number


def _rank(value: torch.Tensor) -> Iterator[Finding]:
    if value.dim() > RANK:
        yield (
            f"rank {value.dim()} is above the Neural Engine's {RANK}",
            "merge dimensions before the permutation, or permute twice",
        )


def _dtype(value: torch.Tensor) -> Iterator[Finding]:
    if value.dtype not in _DTYPES and value.dim() > 0:
        words = str(value.dtype).removeprefix("torch.")
        yield (
            f"computes in {words}: the Neural Engine has float16 and integers of 8 and 16 bits",
            "compute it ahead and keep it as a constant, or behind the model",
        )


def _last_axis(node: fx.Node, value: torch.Tensor, target: Target) -> Iterator[Finding]:
    if macs(node) > 0 and value.dim() > 2 and value.shape[-1] == 1 and value.shape[-2] != 1:
        yield (
            "the last axis has size 1: the Neural Engine pads it to 64 bytes",
            "put the long axis last",
        )
    source: Any = node.args[0] if node.args else None
    if _moves_last(node, source, value):
        yield (
            "changes the last axis, along which the Neural Engine stores: the data are copied",
            f"keep the last axis as it is{_flag(target, '; {} drops most of those of a transformer')}",
        )


def _moves_last(node: fx.Node, source: Any, value: torch.Tensor) -> bool:
    if node.target is aten.permute.default:
        return node.args[1][-1] != value.dim() - 1  # type: ignore[index]
    if node.target is not aten.reshape.default or not isinstance(source, fx.Node):
        return False
    before, after = sizes_of(source), sizes_of(node)
    image = min(len(before), len(after)) > 2  # a classifier's head flattens once, which costs nothing
    return image and before[-1] != after[-1] and 1 not in (before[-1], after[-1])


def _flag(target: Target, words: str) -> str:
    """What the flag would do, unless it was given."""
    return "" if target.options.get("ane") == "on" else words.format("--ane (ane=True)")


def _windows(node: fx.Node, target: Target) -> Iterator[Finding]:
    if node.target in CONVOLUTIONS or node.target in TRANSPOSED:
        hint = _flag(target, ", as {} does") if node.target is aten.conv2d.default else ""
        yield from _strides(node, 3, (2, 3), hint)
        weight: Any = node.args[1]
        yield from _sides(weight.meta["val"].shape[2:], target)
    elif node.target in _POOLS:
        yield from _strides(node, 2, (2,))
        yield from _sides(_numbers(node, 1), target)


def _strides(node: fx.Node, index: int, factors: tuple[int, ...], hint: str = "") -> Iterator[Finding]:
    for stride in _numbers(node, index):
        if leftover(stride, factors) > 1:
            words = " and ".join(map(str, factors))
            yield (
                f"a stride of {stride} is not made of {words}: the layer may leave the Neural Engine",
                f"use a stride made of {words}, or a pixel unshuffle before a stride of 1{hint}",
            )
            return


def _sides(kernel: Any, target: Target) -> Iterator[Finding]:
    if any(int(side) > KERNEL for side in kernel):
        yield (
            f"a kernel of {' x '.join(map(str, kernel))} is large for the Neural Engine",
            f"replace it by several smaller ones: k1 and then k2 reach k1 + k2 - 1{_flag(target, '; {} splits some')}",
        )


def _layout(node: fx.Node, target: Target) -> Iterator[Finding]:
    if node.target in LINEAR:
        by_hand = target.quantized and node.meta["val"].dim() > 2
        yield (
            "a linear layer: the Neural Engine is fastest with convolutions, over [B, C, 1, S] for tokens",
            "nn.Conv2d(C, K, 1) in the model" + ("" if by_hand else _flag(target, "; {} writes it so")),
        )
    if node.target is aten.softmax.int and node.args[1] != 1:
        yield (
            f"softmax over axis {node.args[1]}: the Neural Engine has it over the channels",
            "permute so that the axis is the second",
        )
    if op_name(node) == "scaled_dot_product_attention":
        yield (
            "attention: its softmax runs over the last axis, and the Neural Engine has it over the channels",
            "keys on the second axis, as in [B, K, 1, Q]"
            + ("" if target.quantized else _flag(target, "; {} computes it so")),
        )


def _numbers(node: fx.Node, index: int) -> list[int]:
    value = node.args[index] if len(node.args) > index else ()
    listed = value if isinstance(value, (tuple, list)) else (value,)
    return [v for v in listed if isinstance(v, int)]
