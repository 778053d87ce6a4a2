"""Sixteen bits, which ONNX below opset 21 cannot say: a float file, and the ranges of its tensors beside it.

RKNN-Toolkit2 then quantizes by itself, in its two steps, with these ranges in place of those it measured.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR


def float_twin(program: Program) -> Program:
    """The program without its quantizers; a weight has the values that its codes stand for."""
    editor = Editor(program, "float_twin")
    for node in list(editor.graph.nodes):
        if node.target not in DEQUANTIZE:
            continue
        codes: Any = node.args[0]
        if codes.target is QUANTIZE_TENSOR:
            editor.replace(node, codes.args[0])
        elif codes.op == "get_attr":
            with editor.before(node):
                values = _values(node, editor)
                editor.replace(node, editor.constant(values, label_of(node), origins=(node,)))
    editor.sweep()
    return editor.finish()


def _values(node: fx.Node, editor: Editor) -> torch.Tensor:
    args = [editor.tensor(a) if isinstance(a, fx.Node) else a for a in node.args]
    return node.target(*args)  # type: ignore[operator,no-any-return]


def ranges(program: Program) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each coded activation, symmetric, by label of the node that makes it.

    A quantizer behind a fused activation speaks for the layer in front of it too.
    """
    found: dict[str, tuple[float, float]] = {}
    for node in program.graph.nodes:
        if node.target is not DEQUANTIZE_TENSOR or node.args[0].target is not QUANTIZE_TENSOR:
            continue
        source, scale, _, _, high = node.args[0].args[:5]
        # The toolkit rounds a range up to a power of two: the lowest code's own value would double it.
        top = float(high * scale)
        bounds = (-top, top)
        while source is not None and label_of(source) not in found:
            found[label_of(source)] = bounds
            source = _in_front(source)
    return found


def _in_front(node: fx.Node) -> fx.Node | None:
    """The layer whose result only this activation reads."""
    inputs = node.all_input_nodes
    if node.op != "call_function" or len(inputs) != 1:
        return None
    source = inputs[0]
    alone = len(source.users) == 1 and source.op == "call_function" and source.target not in DEQUANTIZE
    return source if alone else None
