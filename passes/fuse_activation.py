"""``fuse_activation``: which activation belongs to which layer, written beside the operators without changing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx

from fxc.compiler.editor import Editor
from fxc.compiler.errors import UsageError
from fxc.compiler.passbase import EXACT, Pass, PassResult, Promise
from fxc.compiler.program import Program
from fxc.compiler.rule import sole_user

aten = torch.ops.aten

FUSION = "fusion"
"""Key in ``node.meta``: the name of the group's anchor node, on every member and on the anchor itself."""

ACTIVATIONS: dict[str, Any] = {
    "relu": aten.relu.default,
    "hardtanh": aten.hardtanh.default,
    "clamp": aten.clamp.default,
    "leaky_relu": aten.leaky_relu.default,
    "elu": aten.elu.default,
    "sigmoid": aten.sigmoid.default,
    "hardsigmoid": aten.hardsigmoid.default,
    "silu": aten.silu.default,
    "hardswish": aten.hardswish.default,
    "gelu": aten.gelu.default,
    "tanh": aten.tanh.default,
    "mish": aten.mish.default,
}
ANCHORS: dict[str, tuple[Any, ...]] = {
    "conv": (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default),
    "conv_transpose": (
        aten.conv_transpose1d.default,
        aten.conv_transpose2d.input,
        aten.conv_transpose3d.input,
    ),
    "linear": (aten.linear.default,),
    "matmul": (aten.matmul.default,),
    "add": (aten.add.Tensor,),
    "mul": (aten.mul.Tensor,),
}


@dataclass(frozen=True)
class FuseActivation(Pass):
    """Group each layer with the activation that is its only reader.

    Before::

        %conv = conv2d(%x, …)
        %add = add(%conv, %skip)
        %relu = relu(%add)

    After, with ``residual=true`` (the operators stay, ``meta["fusion"]`` is new)::

        %conv = conv2d(%x, …)         # fusion: conv
        %add = add(%conv, %skip)      # fusion: conv
        %relu = relu(%add)            # fusion: conv

    Quantization and reports read the groups with :func:`fusion_groups`: a tensor inside a group never reaches memory.

    Attributes:
        activations: names from :data:`ACTIVATIONS` that the target computes inside a layer.
        anchors: names from :data:`ANCHORS` that take them.
        residual: whether a convolution or linear layer also takes the addition behind it.
    """

    name: ClassVar[str] = "fuse_activation"
    promise: ClassVar[Promise] = EXACT
    requires: ClassVar[frozenset[str]] = frozenset({"canonical"})

    activations: tuple[str, ...] = ("relu", "hardtanh")
    anchors: tuple[str, ...] = ("conv", "conv_transpose", "linear", "add")
    residual: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown names before any work.

        Raises:
            UsageError: a name that is in neither table.
        """
        for names, table in ((self.activations, ACTIVATIONS), (self.anchors, ANCHORS)):
            for name in names:
                if name not in table:
                    raise UsageError(
                        f"{self.name} knows no {name!r}", fix=f"one of {', '.join(sorted(table))}"
                    )

    def apply(self, program: Program) -> PassResult:
        """One walk; groups of an earlier run are replaced."""
        editor = Editor(program, self.name)
        groups = self._groups(editor.graph)
        for node in editor.graph.nodes:
            anchor = groups.get(node)
            if node.meta.get(FUSION) != anchor:
                editor.modified = True
                node.meta.pop(FUSION, None)
                if anchor is not None:
                    node.meta[FUSION] = anchor
        if not editor.modified:
            return PassResult(program, modified=False)
        return PassResult(editor.finish(), modified=True)

    def _groups(self, graph: fx.Graph) -> dict[fx.Node, str]:
        heads = [target for name in self.anchors for target in ANCHORS[name]]
        tails = [ACTIVATIONS[name] for name in self.activations]
        taken: dict[fx.Node, str] = {}
        # Backwards: of two layers that feed one addition, the later one can still take it.
        for node in reversed(graph.nodes):
            if node.op == "call_function" and node.target in heads and node not in taken:
                members = self._members(node, tails, taken)
                if len(members) > 1:
                    taken.update(dict.fromkeys(members, node.name))
        return taken

    def _members(self, node: fx.Node, tails: list[Any], taken: dict[fx.Node, str]) -> list[fx.Node]:
        members, reader = [node], sole_user(node)
        takes_sum = self.residual and node.target not in ANCHORS["add"]
        # An addition that heads a group of its own hands it to this layer, unless another layer has it.
        if takes_sum and reader is not None and _is(reader, ANCHORS["add"]):
            if taken.get(reader, reader.name) != reader.name:
                return members
            members.append(reader)
            reader = sole_user(reader)
        if (
            reader is None
            or not _is(reader, tails)
            or taken.get(reader, members[-1].name) != members[-1].name
        ):
            return members
        return [*members, reader]


def _is(node: fx.Node, targets: Any) -> bool:
    return node.op == "call_function" and node.target in targets


def fusion_groups(program: Program) -> dict[str, tuple[fx.Node, ...]]:
    """Anchor name to the group's nodes in graph order, the anchor first."""
    groups: dict[str, list[fx.Node]] = {}
    for node in program.graph.nodes:
        if FUSION in node.meta:
            groups.setdefault(node.meta[FUSION], []).append(node)
    return {name: tuple(nodes) for name, nodes in groups.items()}
