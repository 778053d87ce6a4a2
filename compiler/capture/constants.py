"""Sub-graphs that depend on no input, parameter or buffer are computed now, with their in-place writes.

The attention mask of a shifted-window transformer is the typical one: zeros, filled slice by slice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from fxc.compiler.capture.alias import AliasSets
from fxc.compiler.capture.lift import Lifted
from fxc.compiler.capture.names import scope_of
from fxc.compiler.capture.schema import overload, written
from fxc.compiler.origin import identifier, unique_label
from fxc.compiler.program import OWN_STATE

_aten = torch.ops.aten
_SHAPED_LIKE: tuple[Any, ...] = (
    _aten.new_zeros.default,
    _aten.new_ones.default,
    _aten.new_full.default,
    _aten.new_empty.default,
    _aten.zeros_like.default,
    _aten.ones_like.default,
    _aten.full_like.default,
    _aten.empty_like.default,
)
"""Operators that read only shape, dtype and device of their first argument."""

_UNFILLED: tuple[Any, ...] = (_aten.empty.memory_format, _aten.new_empty.default, _aten.empty_like.default)


def evaluate_constants(lifted: Lifted, mode: FakeTensorMode | None) -> None:
    """Replace what constant nodes hand to other nodes by ``get_attr`` nodes of the computed tensors.

    A constant that is written to between two readers is stored once per state. Numbers become literals.
    """
    constant = _constant_nodes(lifted)
    if not any(node.op == "call_function" for node in constant):
        return
    _Evaluation(lifted, mode, constant).run()


def _constant_nodes(lifted: Lifted) -> set[fx.Node]:
    sets = AliasSets(lifted.graph)
    tainted: set[fx.Node] = set()
    while True:
        constant = _grow(lifted, sets, tainted)
        writers = [n for n in lifted.graph.nodes if n not in constant]
        found = {sets.of(w) for n in writers for w in written(n)} - tainted
        if not found:
            return constant
        tainted |= found


def _grow(lifted: Lifted, sets: AliasSets, tainted: set[fx.Node]) -> set[fx.Node]:
    constant: set[fx.Node] = set()
    for node in lifted.graph.nodes:
        if sets.of(node) in tainted or node.op in ("placeholder", "output"):
            continue
        if node.op == "get_attr":
            if node not in lifted.state:
                constant.add(node)
        elif _is_computable(node) and all(i in constant for i in _real_inputs(node)):
            constant.add(node)
    return constant


def _is_computable(node: fx.Node) -> bool:
    op = overload(node)
    if op is not None and torch.Tag.nondeterministic_seeded in op.tags:
        return False
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(v, (int, float, bool)) or _is_static(v) for v in values)


def _is_static(value: Any) -> bool:
    return isinstance(value, Tensor) and all(isinstance(size, int) for size in value.shape)


def _real_inputs(node: fx.Node) -> list[fx.Node]:
    if node.target in _SHAPED_LIKE and _is_static(node.meta.get("val")):
        return [n for n in node.all_input_nodes if n is not node.args[0]]
    return node.all_input_nodes


class _Evaluation:
    def __init__(self, lifted: Lifted, mode: FakeTensorMode | None, constant: set[fx.Node]):
        self.lifted, self.mode, self.constant = lifted, mode, constant
        self.values: dict[fx.Node, Any] = {}
        self.stored: dict[tuple[fx.Node, int], fx.Node] = {}
        self.taken = {name.removeprefix(f"{OWN_STATE}.") for name in lifted.tensors}

    def run(self) -> None:
        with torch.no_grad():
            for node in list(self.lifted.graph.nodes):
                if node in self.constant:
                    self.values[node] = self._compute(node)
                elif any(i in self.constant for i in node.all_input_nodes):
                    node.args = fx.map_arg(node.args, lambda n, at=node: self._handed(n, at))
                    node.kwargs = fx.map_arg(node.kwargs, lambda n, at=node: self._handed(n, at))

        for node in reversed(list(self.lifted.graph.nodes)):
            if node in self.constant and not node.users:
                self.lifted.graph.erase_node(node)

    def _compute(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return self.lifted.tensors[str(node.target)].detach().clone()
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._argument)
        result = node.target(*args, **kwargs)  # type: ignore[operator]
        return result.zero_() if node.target in _UNFILLED else result

    def _argument(self, node: fx.Node) -> Any:
        if node in self.constant:
            return self.values[node]
        # Only the first argument of a _SHAPED_LIKE operator is not constant: shape, dtype and device are enough.
        value = node.meta["val"]
        shape = tuple(value.shape) if _is_static(value) else (0,)
        return torch.empty(shape, dtype=value.dtype, device=value.device)

    def _handed(self, node: fx.Node, reader: fx.Node) -> Any:
        """What ``reader`` reads instead of constant ``node``: a ``get_attr`` node of its present state, or a number."""
        if node not in self.constant or (node.op == "get_attr" and self.values[node]._version == 0):
            return node
        value = self.values[node]
        if not isinstance(value, Tensor):
            return value
        key = (node, value._version)
        if key not in self.stored:
            self.stored[key] = self._store(node, value.clone(memory_format=torch.contiguous_format), reader)
        return self.stored[key]

    def _store(self, node: fx.Node, value: Tensor, reader: fx.Node) -> fx.Node:
        wanted = identifier(".".join(filter(None, (scope_of(node), "constant"))))
        target = f"{OWN_STATE}.{unique_label(wanted, self.taken)}"
        self.lifted.tensors[target] = value
        with self.lifted.graph.inserting_before(reader):
            new = self.lifted.graph.get_attr(target)
        new.meta = dict(node.meta)
        if self.mode is not None:
            new.meta["val"] = self.mode.from_tensor(value, static_shapes=True)
        return new
