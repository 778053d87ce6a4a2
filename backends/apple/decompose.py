"""One call taken apart by PyTorch's own decompositions, so that a converter needs to know the smaller operators only.

Call by call the whole takes time in proportion to the number of nodes, and every part keeps its layer's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from fxc.backends.apple.spelling import Call

Table = Mapping[Any, Callable[..., Any]]
"""What ``torch.export.default_decompositions()`` gives, or a part of it."""


def nodes_of(call: Call) -> list[fx.Node]:
    """Every node among the arguments, once, in order."""
    leaves = pytree.tree_leaves((tuple(call.args), dict(call.kwargs)))
    return list(dict.fromkeys(leaf for leaf in leaves if isinstance(leaf, fx.Node)))


def traced(call: Call, mode: FakeTensorMode, table: Table) -> fx.Graph:
    """The graph of ``call`` by the decompositions of ``table``; a placeholder for each of :func:`nodes_of` it."""
    nodes = nodes_of(call)
    leaves, spec = pytree.tree_flatten((tuple(call.args), dict(call.kwargs)))

    def function(*values: Any) -> Any:
        known = dict(zip(nodes, values))
        args, kwargs = pytree.tree_unflatten(
            [known[leaf] if isinstance(leaf, fx.Node) else leaf for leaf in leaves], spec
        )
        return call.target(*args, **kwargs)

    with mode, torch.no_grad():
        made = make_fx(function, decomposition_table=dict(table))
        graph: fx.Graph = made(*(node.meta["val"] for node in nodes)).graph
    graph.eliminate_dead_code()
    return graph
