"""Linear layers as 1x1 convolutions, and what lies between them with its channels on the second axis, as the Neural Engine likes it.

Source: Apple's published rules for its Neural Engine, and its reference transformers in the layout ``[B, C, 1, S]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from fxc.backends.coreml import channels_first_rules as rules
from fxc.backends.coreml.channels_first_rules import Walk
from fxc.backends.coreml.forms import regular
from fxc.compiler.editor import Editor
from fxc.compiler.passbase import CLOSE, Pass, PassResult, Promise
from fxc.compiler.program import Program

aten = torch.ops.aten


@dataclass(frozen=True)
class ChannelsFirst(Pass):
    """Write linear layers as convolutions, and carry what depends on them as ``[B, C, 1, S]`` or ``[B, C, H, W]``.

    Before::

        %norm = layer_norm(%x, [C], …): f32[B, S, C]
        %up = linear(%norm, weight): f32[B, S, K]
        %act = gelu(%up)

    After::

        %norm_layout = permute(%norm, [0, 2, 1]): f32[B, C, S]
        %norm_layout_1 = reshape(%norm_layout, [-1, C, 1, S])
        %up = conv2d(%norm_layout_1, weight[:, :, None, None]): f32[B, K, 1, S]
        %act = gelu(%up)

    What can be computed so is: pointwise operators, sums, layer norms, slices, attention, whose softmax then runs over the
    channel axis. Reshapes and permutations only change how the rest is read. Whatever else reads such a value gets it back in
    the model's own arrangement. A program that would
    need more permutations than it has, and two at its ends, keeps its tokens as they are.

    Attributes:
        tokens: also layers on more than ``[N, C]``, and what follows them. Not where activations are quantized: the scheme
            knows a transformer by its linear layers.
    """

    name: ClassVar[str] = "channels_first"
    promise: ClassVar[Promise] = CLOSE
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    tokens: bool = True

    def apply(self, program: Program) -> PassResult:
        """One walk in order; what is no longer read goes."""
        nodes = program.graph.nodes
        if not any(node.target in rules.STARTS for node in nodes) or not all(map(regular, nodes)):
            return PassResult(program, modified=False)
        editor = rearranged(program, self.tokens)
        if self.tokens and _permutations(editor.graph) > _permutations(program.graph) + 2:
            # Windows of an image and their own attention are read in both arrangements in turn: copying them costs more.
            editor = rearranged(program, tokens=False)
        if not editor.modified:
            return PassResult(program, modified=False)
        return PassResult(editor.finish(), modified=True)


def rearranged(program: Program, tokens: bool) -> Editor:
    """A copy of the program's graph in which everything that can be is rearranged, whatever it costs."""
    editor = Editor(program, ChannelsFirst.name)
    walk = Walk(editor, tokens)
    for node in list(editor.graph.nodes):
        _visit(node, walk)
    if editor.modified:
        editor.sweep()
    return editor


def _permutations(graph: fx.Graph) -> int:
    return sum(node.target is aten.permute.default for node in graph.nodes)


def _visit(node: fx.Node, walk: Walk) -> None:
    rule: Any = rules.RULES.get(node.target) if node.op == "call_function" else None
    with walk.editor.before(node):
        form = rule(node, walk) if rule is not None else None
        if form is not None:
            walk.forms[node] = form
            if form.turned and form.carrier is node:
                # Nodes of one name hold the same values in all programs of a compile, and this one's are rearranged.
                node._rename(f"{node.name}_channels_first")
            return
        for source in node.all_input_nodes:
            if walk.is_turned(source):
                node.replace_input_with(source, walk.plain(source, node))
