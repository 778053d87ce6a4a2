"""Rules that are one function: another spelling of the same value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of, unique_label
from fxc.compiler.rule import Rule, apply_rules


@dataclass(frozen=True)
class Call:
    """What a node becomes: an operator and its arguments, under the node's own name and origin.

    Attributes:
        target: operator overload.
        args, kwargs: nodes and literals.
        val: the fake value, if it is not the old node's.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    val: Any = None


Spelled: TypeAlias = Call | fx.Node | None


class Spelling(Rule):
    """A rule made of one function of ``(node, editor)``.

    The function returns a :class:`Call` that the node becomes, a node that replaces it, or ``None`` where it does not
    apply; it creates nodes (before the one it was called for) only if it does apply.
    """

    def __init__(self, name: str, anchors: tuple[Any, ...], spell: Callable[[fx.Node, Editor], Spelled]):
        self.name, self.anchors, self._spell = name, anchors, spell  # type: ignore[misc]

    def match(self, node: fx.Node, editor: Editor) -> tuple[fx.Node, Call | fx.Node] | None:
        """The node and what it becomes."""
        with editor.before(node):
            spelled = self._spell(node, editor)
        return None if spelled is None else (node, spelled)

    def rewrite(self, match: Any, editor: Editor) -> None:
        """Retarget or replace."""
        node, spelled = match
        if isinstance(spelled, Call):
            editor.retarget(node, spelled.target, spelled.args, spelled.kwargs, val=spelled.val)
        else:
            editor.replace(node, spelled)


def settle(editor: Editor, rules: tuple[Rule, ...], *, rounds: int = 8) -> None:
    """Walk the graph with ``rules`` until a walk changes nothing, so that a second run has nothing to do."""
    modified = editor.modified
    for _ in range(rounds):
        editor.modified = False
        apply_rules(editor, rules)
        if not editor.modified:
            break
        modified = True
    editor.modified = modified


class Expand:
    """Writes one operator as several: ``op(target, *args)`` makes a node labelled after the one it stands for."""

    def __init__(self, node: fx.Node, editor: Editor):
        self.node, self.editor = node, editor
        self._labels: set[str] = set()

    def __call__(self, target: Any, *args: Any) -> fx.Node:
        """A new node, ``conv.mul``, ``conv.mul_1``…"""
        name = getattr(getattr(target, "overloadpacket", target), "__name__", "op")
        suffix = unique_label(f".{name}", self._labels)
        return self.editor.call(target, args, origins=(self.node,), suffix=suffix)

    def constant(self, tensor: Tensor, name: str) -> fx.Node:
        """A constant, ``conv.scale``."""
        return self.editor.constant(tensor, f"{label_of(self.node)}.{name}", origins=(self.node,))

    def shaped(self, parameter: fx.Node, sizes: list[int]) -> fx.Node:
        """``parameter`` in another shape; a constant under its own name if it is one."""
        if parameter.op != "get_attr":
            return self(torch.ops.aten.reshape.default, parameter, sizes)
        tensor = self.editor.tensor(parameter).detach().reshape(sizes)
        return self.editor.constant(tensor, label_of(parameter), origins=(self.node,))
