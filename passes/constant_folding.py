"""``constant_folding``: what depends on no input is computed now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor, has_effect
from fxc.compiler.origin import label_of
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Program, attributes_used
from fxc.compiler.qdq import DEQUANTIZE, QUANTIZE
from fxc.passes.values import static_shape

_KEPT = (*DEQUANTIZE, *QUANTIZE)


@dataclass(frozen=True)
class ConstantFolding(Pass):
    """Evaluate operators whose inputs are all parameters, buffers or constants.

    Before::

        %bias = index(attn.bias_table, [attn.bias_index])
        %view = reshape(%bias, [49, 49, -1])
        %add = add(%x, %view)

    After::

        %add = add(%x, _fxc.attn_view)

    A quantized weight keeps its ``dequantize``, a random operator stays random, and a result that is larger than both
    ``limit`` elements and everything it is computed from stays an operator: an ``expand`` costs nothing at run time.

    Attributes:
        limit: number of elements up to which a result may grow.
    """

    name: ClassVar[str] = "constant_folding"
    # The folded tensor is laid out afresh, so the kernel that reads it may sum in another order.
    promise: ClassVar[Promise] = CLOSE

    limit: int = 1 << 20

    def apply(self, program: Program) -> PassResult:
        """One walk; only values that a kept operator reads become tensors of the program."""
        foldable = _foldable(program, self.limit)
        if not foldable:
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        values = _evaluate(program, foldable)
        by_name = {node.name: node for node in editor.graph.nodes}
        for node in foldable:
            if any(user not in foldable for user in node.users):
                _replace(by_name[node.name], values[node], editor)
        editor.sweep()
        return PassResult(editor.finish(), modified=True)


def _foldable(program: Program, limit: int) -> dict[fx.Node, None]:
    """Nodes to evaluate, in order."""
    found: dict[fx.Node, None] = {}
    for node in program.graph.nodes:
        inputs = node.all_input_nodes
        known = all(i.op == "get_attr" or i in found for i in inputs)
        if node.op == "call_function" and known and _can_fold(node, inputs, limit):
            found[node] = None
    return found


def _can_fold(node: fx.Node, inputs: list[fx.Node], limit: int) -> bool:
    target, value = node.target, node.meta.get("val")
    if target in _KEPT or not isinstance(target, torch._ops.OpOverload) or not isinstance(value, Tensor):
        return False
    if has_effect(target) or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    sizes = static_shape(node)
    if sizes is None:
        return False
    largest = max((i.meta["val"].numel() for i in inputs if isinstance(i.meta["val"], Tensor)), default=0)
    return value.numel() <= max(limit, largest)


def _evaluate(program: Program, nodes: dict[fx.Node, None]) -> dict[fx.Node, Tensor]:
    values: dict[fx.Node, Any] = {}
    tensors = attributes_used(program.graph_module)
    waiting = {node: len(node.users) for node in nodes}

    def value(node: fx.Node) -> Any:
        return tensors[str(node.target)] if node.op == "get_attr" else values[node]

    for node in nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), value)
        with torch.no_grad():
            values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        for source in node.all_input_nodes:
            if source in waiting:
                waiting[source] -= 1
                if not waiting[source]:
                    del values[source]
    return values


def _replace(node: fx.Node, value: Tensor, editor: Editor) -> None:
    with editor.before(node):
        # A copy of its own: a view would keep its base alive, and an expanded one cannot be stored.
        owned = value.detach().clone(memory_format=torch.contiguous_format)
        constant = editor.constant(owned, label_of(node), origins=(node,))
    node.replace_all_uses_with(constant)
    editor.modified = True
