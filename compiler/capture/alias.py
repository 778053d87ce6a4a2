"""Which nodes of a graph may share memory."""

from __future__ import annotations

import operator

from torch import Tensor, fx

from fxc.compiler.capture.schema import aliased, overload, written


class AliasSets:
    """A partition of a graph's nodes: two nodes that may share memory are in one set.

    From the operators' schemas, and from the storages of the fake values, which the tracer shares as the real tensors
    would (a deserialised graph has lost that, the schemas remain).
    """

    def __init__(self, graph: fx.Graph):
        self._parent: dict[fx.Node, fx.Node] = {}
        storages: dict[int, fx.Node] = {}
        for node in graph.nodes:
            for other in self._related(node):
                self._union(node, other)
            value = node.meta.get("val")
            if isinstance(value, Tensor) and node.op != "output":
                self._union(node, storages.setdefault(value.untyped_storage()._cdata, node))

    def of(self, node: fx.Node) -> fx.Node:
        """The set's representative."""
        parent = self._parent
        while parent.get(node, node) is not node:
            parent[node] = parent.get(parent[node], parent[node])
            node = parent[node]
        return node

    def _related(self, node: fx.Node) -> list[fx.Node]:
        if overload(node) is not None:
            return aliased(node) + written(node)
        source = node.args[0] if node.target is operator.getitem else None
        return [source] if isinstance(source, fx.Node) and aliased(source) else []

    def _union(self, a: fx.Node, b: fx.Node) -> None:
        self._parent[self.of(a)] = self.of(b)
