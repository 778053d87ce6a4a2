"""Rules about where pairs stand, so that layers fuse and run in int8: around activations, joins and moving operators."""

from __future__ import annotations

from collections.abc import Iterator

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting, on_gpu
from fxc.backends.tensorrt.checker.walk import (
    DEQUANTIZE,
    FUSED,
    PLAIN,
    QUANTIZE,
    WEIGHTED,
    activations,
    back,
    dequantizer,
    ends,
    moves,
    quantizer,
    same_scale,
    straight,
)

_USEFUL = (*WEIGHTED, *PLAIN, *FUSED, "Concat", "Resize", QUANTIZE, DEQUANTIZE)
"""Operators for whose sake a tensor is quantized."""


def _split(view: View, ops: tuple[str, ...]) -> Iterator[tuple[Node, Node]]:
    """Pairs between an int8 weighted operator and what it would fuse with: dequantizer and that operator."""
    for node in view.of(*ops):
        pair = view.producer(node.input(0))
        made = quantizer(view, pair) if pair is not None and pair.op == DEQUANTIZE else None
        if pair is not None and made is not None and straight(view, made.input(0)):
            yield pair, node


def before_activation(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: no pair between a convolution and its activation, they fuse into one kernel."""
    for pair, node in _split(view, FUSED[:-1]):
        yield Place(
            node, pair.output, f"a pair between a weighted layer and its {node.op}: they no longer fuse"
        )


def before_batch_norm(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: no pair between a convolution and its batch norm."""
    for pair, node in _split(view, ("BatchNormalization",)):
        yield Place(
            node, pair.output, "a pair between a weighted layer and its batch norm; fold the batch norm"
        )


def batch_norm_left(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: weights are quantized with the batch norm folded in.

    Behind an int8 convolution it is a float operator of its own, or its factor is lost to the weights' scales.
    """
    for node in view.of("BatchNormalization"):
        if straight(view, node.input(0)):
            yield Place(node, node.input(0), "a batch norm behind an int8 layer; fold it before quantizing")


def partial_inputs(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: an operator without weights is int8 only with every input dequantized.

    An addition may take one float branch straight from an int8 layer: both fuse.
    """
    for node in view.of("Add", "Mul"):
        bare = [name for name in node.inputs if not dequantizer(view, name)]
        fuses = node.op == "Add" and all(straight(view, name) and view.uses(name) == 1 for name in bare)
        if 0 < len(bare) < len(node.inputs) and not fuses:
            yield Place(
                node, bare[0], f"one input of {node.op} is quantized, the other is not: it computes in float"
            )


def missing_quantizer(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: an operator without weights is int8 only with a quantizer on its output."""
    for node in view.of(*PLAIN):
        if all(dequantizer(view, name) for name in node.inputs) and not _quantized(view, node.output):
            yield Place(
                node, node.output, f"{node.op} reads int8, but no quantizer follows: it computes in float"
            )


def _quantized(view: View, tensor: str) -> bool:
    return all(node is not None and node.op == QUANTIZE for node in ends(view, tensor, _before_quantizer))


def _before_quantizer(node: Node) -> bool:
    """Whether a quantizer behind a node still serves the operator in front of it."""
    return moves(node) or node.op in (*FUSED[:-1], "Concat", "Resize")


def residual_both(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: of a residual addition quantize the skip branch only.

    The branch that comes straight from a convolution stays as it is, so that convolution and addition fuse.
    """
    for node in view.of("Add"):
        makers = [_sole(view, node, name) for name in node.inputs]
        if all(dequantizer(view, name) for name in node.inputs) and any(makers):
            layer = next(maker for maker in makers if maker)
            yield Place(
                node, layer.output, f"the pair behind {layer.name} keeps it from fusing with the addition"
            )


def _sole(view: View, node: Node, tensor: str) -> Node | None:
    """The int8 layer behind a pair that serves ``node`` alone."""
    pair = view.producer(tensor)
    made = quantizer(view, pair) if pair is not None and pair.op == DEQUANTIZE else None
    if pair is None or made is None:
        return None
    alone = all(view.uses(name) == 1 for name in (made.input(0), made.output, pair.output))
    return straight(view, made.input(0)) if alone else None


def residual_float(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: convolution and addition fuse in int8 only if the skip branch is int8.

    A single convolution branch matters only where a quantizer follows; else the stream is meant to be float.
    """
    for node in view.of("Add"):
        if any(map(view.constant, node.inputs)) or any(dequantizer(view, name) for name in node.inputs):
            continue
        layers = [straight(view, name) for name in node.inputs]
        if all(layers) or (any(layers) and _quantized(view, node.output)):
            skip = node.inputs[layers.index(None)] if None in layers else node.inputs[-1]
            yield Place(node, skip, "no branch of the addition is quantized; the skip branch needs a pair")


def moving_scale(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: operators that commute with quantization keep the scale they read.

    A pair of their own with another scale (or one directly behind another) is a kernel that only rescales.
    """
    for node in activations(view, QUANTIZE):
        source, passed = back(view, node.input(0))
        pair = view.producer(source)
        if pair is not None and pair.op == DEQUANTIZE and not same_scale(view, pair, node):
            what = f"{passed[-1].op} passes its scale on" if passed else f"{pair.name} is dequantized for it"
            yield Place(node, source, f"{what}, and here it is quantized again with another")


def concat_scales(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: a concatenation copies codes only if branches and result share one scale."""
    for node in view.of("Concat"):
        pairs = [pair for name in node.inputs if (pair := dequantizer(view, name))]
        if len(pairs) < len(node.inputs):
            continue
        after = [n for n in ends(view, node.output) if n is not None and n.op == QUANTIZE]
        if not all(same_scale(view, pairs[0], other) for other in (*pairs, *after)):
            yield Place(
                node, node.output, "branches and result have unequal scales: each gets a kernel that rescales"
            )


def unused_pair(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT developer guide, placement: a pair for operators that compute in float only costs kernels and accuracy."""
    for node in activations(view, DEQUANTIZE):
        readers = ends(view, node.output)
        if not any(reader is not None and reader.op in _USEFUL for reader in readers):
            names = sorted({reader.op if reader else "the network's output" for reader in readers})
            yield Place(node, node.output, f"read by {', '.join(names)} only, which is float")


RULES = (
    Rule("before-activation", "slow", before_activation),
    Rule("before-batch-norm", "slow", before_batch_norm),
    Rule("batch-norm-left", "slow", batch_norm_left),
    Rule("partial-inputs", "slow", partial_inputs, on_gpu),
    Rule("missing-quantizer", "slow", missing_quantizer, on_gpu),
    Rule("residual-both", "slow", residual_both, on_gpu),
    Rule("residual-float", "slow", residual_float, on_gpu),
    Rule("moving-scale", "slow", moving_scale, on_gpu),
    Rule("concat-scales", "slow", concat_scales, on_gpu),
    Rule("unused-pair", "slow", unused_pair, on_gpu),
)
