"""``cse``: the same operator on the same inputs is computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor, has_effect
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program, attributes_used

aten = torch.ops.aten


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Merge operators that compute the same value, and reads of one tensor.

    Before::

        %a = relu(%x)
        %b = relu(%x)
        %add = add(%a, %b)

    After::

        %a = relu(%x)
        %add = add(%a, %a)

    Random operators are never merged, nor are batch norms and dropouts that train.
    """

    name: ClassVar[str] = "cse"
    promise: ClassVar[Promise] = EXACT

    def apply(self, program: Program) -> PassResult:
        """One walk in topological order, with a table of what was seen."""
        if not _repeats(program):
            return PassResult(program, modified=False)
        editor = Editor(program, self.name)
        seen: dict[Any, fx.Node] = {}
        for node in list(editor.graph.nodes):
            key = _key(node, editor.tensors)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is not node:
                editor.absorb(first, node)
                editor.replace(node, first)
        if not editor.modified:
            return PassResult(program, modified=False)
        return PassResult(editor.finish(), modified=True)


def _repeats(program: Program) -> bool:
    """Whether any two nodes are equal: if none are, none become so, and the graph need not be copied."""
    tensors = attributes_used(program.graph_module)
    keys = [key for node in program.graph.nodes if (key := _key(node, tensors)) is not None]
    return len(set(keys)) < len(keys)


def _key(node: fx.Node, tensors: Mapping[str, Tensor]) -> Any:
    """What makes two nodes equal; ``None`` for a node that must stay its own."""
    if node.op == "get_attr":
        return _tensor_key(tensors[str(node.target)])
    if node.op != "call_function" or _is_random(node):
        return None
    return node.target, _frozen(node.args), _frozen(node.kwargs)


def _tensor_key(tensor: Tensor) -> Any:
    # By memory, not by contents: two equal tensors may be trained apart.
    memory = tensor.data_ptr() if tensor.numel() else id(tensor)
    return memory, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.requires_grad


def _is_random(node: fx.Node) -> bool:
    target: Any = node.target
    if node.target is aten.batch_norm.default:
        return node.args[5] is not False
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return has_effect(target) or torch.Tag.nondeterministic_seeded in target.tags


def _frozen(value: Any) -> Any:
    """A hashable form; literals carry their type, because 1, 1.0 and True are equal in Python."""
    if isinstance(value, fx.Node):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((k, _frozen(value[k])) for k in sorted(value))
    return type(value), value
