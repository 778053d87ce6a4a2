"""Rules about scales and types on the deep learning accelerator of a Jetson."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fxc.backends.tensorrt.checker.graph import Node, View
from fxc.backends.tensorrt.checker.rule import Place, Rule, Setting, on_dla
from fxc.backends.tensorrt.checker.walk import (
    DEQUANTIZE,
    FUSED,
    QUANTIZE,
    WEIGHTED,
    dequantizer,
    direct,
    ends,
    moves,
    quantizer,
    same_scale,
    scale,
    straight,
)

ELEMENTWISE = ("Add", "Sub", "Mul", "Max", "Min")


def dla_version(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA: up to 10.7 without Q/DQ (a calibration cache instead), then none, with Q/DQ from 11.4.1."""
    if _paired(view) and setting.version < (11, 4):
        yield Place(
            None, "", "a file with Q/DQ; before 11.4.1 the accelerator takes a calibration cache instead"
        )
    elif setting.version[:3] == (11, 4, 0) or (10, 7) < setting.version[:2] < (11, 4):
        yield Place(None, "", "this TensorRT has no accelerator; 10.7 has, and 11.4.1 on")


def _paired(view: View) -> bool:
    return any(True for _ in view.of(QUANTIZE, DEQUANTIZE))


def dla_static_shape(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: every dimension is fixed when the loadable is built."""
    for name in sorted(view.inputs):
        if None in (view.shape(name) or (None,)):
            yield Place(None, name, "a dynamic shape; the accelerator runs fixed shapes only")


def dla_operand_scale(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: both int8 inputs of an element-wise layer have one scale.

    NVIDIA's Q/DQ translator: a convolution's branch may carry the scale 1.0 instead, and fuses with the addition.
    """
    for node in view.of(*ELEMENTWISE):
        pairs = [pair for name in node.inputs if (pair := dequantizer(view, name))]
        bound = [pair for pair in pairs if not (node.op == "Add" and _unit(view, pair))]
        if any(not same_scale(view, bound[0], pair) for pair in bound[1:]):
            yield Place(
                node,
                node.inputs[1],
                f"the inputs of {node.op} have unequal scales; the accelerator needs one",
            )


def _unit(view: View, pair: Node) -> bool:
    """Whether a pair of scale 1 stands straight behind a convolution."""
    made, array = quantizer(view, pair), scale(view, pair)
    unit = array is not None and bool(np.all(array == 1.0))
    return unit and made is not None and straight(view, made.input(0)) is not None


def dla_kept_scale(view: View, setting: Setting) -> Iterator[Place]:
    """TensorRT documentation, DLA layer restrictions: pooling, and what moves data, writes the scale that it reads."""
    for node in (node for node in view.nodes if moves(node) or node.op == "AveragePool"):
        pair = dequantizer(view, node.input(0))
        after = [
            reader for reader in direct(view, node.output) if reader is not None and reader.op == QUANTIZE
        ]
        if pair is not None and not all(same_scale(view, pair, reader) for reader in after):
            yield Place(node, node.output, f"{node.op} reads one scale and writes another")


def dla_concat_scale(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA's Q/DQ translator for DLA: branches and result of a concatenation share one scale."""
    for node in view.of("Concat"):
        pairs = [pair for name in node.inputs if (pair := dequantizer(view, name))]
        pairs += [
            reader for reader in ends(view, node.output) if reader is not None and reader.op == QUANTIZE
        ]
        if any(not same_scale(view, pairs[0], pair) for pair in pairs[1:]):
            yield Place(
                node, node.output, "branches and result have unequal scales; the accelerator needs one"
            )


def dla_bare_tensor(view: View, setting: Setting) -> Iterator[Place]:
    """NVIDIA ModelOpt, DLA mode: every tensor has a scale, else its layer leaves int8.

    Between a convolution and its activation there is none, and what leaves the network may be float.
    """
    tensors = (
        *sorted(view.inputs),
        *(node.output for node in view.nodes if node.op not in (QUANTIZE, DEQUANTIZE)),
    )
    for tensor in tensors:
        free = not _paired(view) or view.constant(tensor) or _fuses(view, tensor)
        for reader in () if free else direct(view, tensor):
            if reader is not None and reader.op not in (QUANTIZE, "Cast"):
                yield Place(reader, tensor, f"{reader.op} reads a tensor without a scale; it leaves int8")


def _fuses(view: View, tensor: str) -> bool:
    """Whether a tensor goes from a layer into its activation only."""
    node, readers = view.producer(tensor), view.readers(tensor)
    layer = node is not None and node.op in (*WEIGHTED, *ELEMENTWISE)
    return layer and len(readers) == 1 and readers[0].op in FUSED


RULES = (
    Rule("dla-version", "error", dla_version, on_dla),
    Rule("dla-static-shape", "error", dla_static_shape, on_dla),
    Rule("dla-operand-scale", "error", dla_operand_scale, on_dla),
    Rule("dla-kept-scale", "error", dla_kept_scale, on_dla),
    Rule("dla-concat-scale", "slow", dla_concat_scale, on_dla),
    Rule("dla-bare-tensor", "slow", dla_bare_tensor, on_dla),
)
