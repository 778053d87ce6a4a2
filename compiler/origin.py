"""Where a node comes from: the model's own layer names, its source line, and the passes that made it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from torch.fx import Graph, Node

_KEY = "fxc"


@dataclass(frozen=True)
class Origin:
    """Provenance of one node.

    Attributes:
        label: the name a user reads, ``"layer1.0.conv1"``; unique in a captured graph, a derived node extends it.
        layers: layers of the model whose work this node does (several after a fusion).
        source: the model's own line, ``"resnet.py:93  out = self.conv1(x)"``, when capture knew it.
        made_by: name of the pass that made the node, ``None`` for a captured one.
    """

    label: str
    layers: tuple[str, ...] = ()
    source: str | None = None
    made_by: str | None = None

    def __str__(self) -> str:
        return f"{self.label} ({self.source})" if self.source else self.label


def origin_of(node: Node) -> Origin:
    """The node's origin; a node that has none is labelled by its own name."""
    origin = node.meta.get(_KEY)
    return origin if isinstance(origin, Origin) else Origin(label=node.name)


def set_origin(node: Node, origin: Origin) -> None:
    """Attach ``origin`` to ``node``."""
    node.meta[_KEY] = origin


def derive(nodes: tuple[Node, ...], made_by: str, suffix: str = "") -> Origin:
    """Origin of a node that a pass makes from ``nodes``: their layers united, the first one's label and line."""
    origins = [origin_of(n) for n in nodes]
    layers = tuple(dict.fromkeys(layer for o in origins for layer in o.layers))
    head = origins[0]
    return replace(head, label=head.label + suffix, layers=layers, made_by=made_by)


def label_of(node: Node) -> str:
    """The name a user reads for this node."""
    return origin_of(node).label


def where(node: Node) -> str:
    """``layer (file:line  code)`` for error messages."""
    return str(origin_of(node))


def op_name(node: Node) -> str:
    """Short operator name: ``conv2d`` for ``aten.conv2d.default``, ``getitem`` for the builtin, else the node's op.

    An operator of another package keeps its namespace, ``acme.conv2d``: it is not what ATen calls so.
    """
    if node.op != "call_function":
        return node.op
    target: Any = node.target
    packet = getattr(target, "overloadpacket", None)
    if packet is None:
        return getattr(target, "__name__", str(target))
    name: str = packet.__name__
    return name if target.namespace in ("aten", "fxc") else f"{target.namespace}.{name}"


def identifier(label: str) -> str:
    """A Python identifier made of ``label``, for node names: ``layer1.0.conv1`` becomes ``layer1_0_conv1``."""
    text = re.sub(r"\W", "_", label)
    return f"_{text}" if not text or text[0].isdigit() else text


def unique_label(wanted: str, taken: set[str]) -> str:
    """``wanted``, or ``wanted_1``, ``wanted_2``…, whichever is free; the result is added to ``taken``."""
    label, n = wanted, 0
    while label in taken:
        n += 1
        label = f"{wanted}_{n}"
    taken.add(label)
    return label


def labels(graph: Graph) -> dict[str, Node]:
    """Label to node, for every node that has an origin; the first of equal labels wins."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        found.setdefault(label_of(node), node)
    return found
