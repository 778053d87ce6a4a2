"""In-place operators made functional: ``relu_(x)`` becomes ``relu(x)``, and later readers of ``x`` see the result.

The rule comes from the operators' schemas. A write through a view is put back into the view's base, and every other
view of that base is taken again when it is read next.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from fxc.compiler.capture.alias import AliasSets
from fxc.compiler.capture.schema import SOMETIMES_ALIASES, aliased, normalise, overload, written
from fxc.compiler.capture.views import NoInverse, replay, restore, sizes_of

_aten = torch.ops.aten
_COPIES: tuple[Any, ...] = (_aten.copy_.default, _aten.fill_.Tensor)
_FILLS: tuple[Any, ...] = (_aten.fill_.Scalar, _aten.zero_.default)


class NeedsDecomposition(Exception):
    """A write that the rules here cannot express; PyTorch's own functionalisation can."""


def make_functional(graph: fx.Graph, mode: FakeTensorMode | None) -> set[fx.Node]:
    """Remove every write from ``graph``, whose arguments are normalised; returns the inputs and attributes written to.

    Raises:
        NeedsDecomposition: a write through a view without a known inverse, or an operator without functional twin.
    """
    for node in list(graph.nodes):
        op = overload(node)
        if op is not None and torch.Tag.inplace_view in op.tags:
            _retarget_view(graph, node, op)
    if not any(written(node) for node in graph.nodes):
        return set()
    return _Functional(graph, mode).run()


def _retarget_view(graph: fx.Graph, node: fx.Node, op: OpOverload) -> None:
    """A change of shape in place, ``unsqueeze_(x) -> unsqueeze(x)``: the tracer hands its result to later readers."""
    if op is _aten.detach_.default:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        graph.erase_node(node)
    else:
        node.target = _functional_twin(op)


def _functional_twin(op: OpOverload) -> OpOverload:
    namespace, name = op._schema.name.split("::")
    packet = (
        getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    )
    twin = getattr(packet, op._overloadname, None)
    if twin is None or twin._schema.is_mutable or len(twin._schema.arguments) != len(op._schema.arguments):
        raise NeedsDecomposition(f"{op} has no functional twin")
    return twin


class _Functional:
    """One walk. A tracked node is a *root* or a view of another one (``base``).

    A write makes a new version of the root; a view whose value belongs to an older version is stale.
    """

    def __init__(self, graph: fx.Graph, mode: FakeTensorMode | None):
        self.graph, self.mode = graph, mode
        self.sets = AliasSets(graph)
        self.tracked_sets = {self.sets.of(w) for n in graph.nodes for w in written(n)}
        self.same: dict[fx.Node, fx.Node] = {}
        self.base: dict[fx.Node, fx.Node] = {}
        self.root: dict[fx.Node, fx.Node] = {}
        self.value: dict[fx.Node, tuple[int, fx.Node]] = {}
        self.version: dict[fx.Node, int] = {}
        self.at = next(iter(graph.nodes))

    def run(self) -> set[fx.Node]:
        for node in list(self.graph.nodes):
            self.at = node
            targets, bases = written(node), self._bases(node)
            if any(n in self.root or n in self.same for n in node.all_input_nodes):
                node.args = fx.map_arg(node.args, self._read)
                node.kwargs = fx.map_arg(node.kwargs, self._read)
            if targets:
                self._write(node, targets)
            elif self.sets.of(node) in self.tracked_sets:
                self._track(node, bases)
        return {r for r, version in self.version.items() if version and r.op in ("placeholder", "get_attr")}

    def _bases(self, node: fx.Node) -> list[fx.Node]:
        """The tensors that ``node`` really is a view of, as the original graph had them."""
        if node.target is operator.getitem:
            pieces: Any = node.args[0]
            return [self.base[pieces]] if pieces in self.base else []
        found = [self.same.get(n, n) for n in aliased(node)]
        return [n for n in found if n in self.root and self._shares_memory(node, n)]

    def _shares_memory(self, node: fx.Node, base: fx.Node) -> bool:
        """``reshape`` and ``contiguous`` are views only if the memory allows: the fake values know."""
        if node.target not in SOMETIMES_ALIASES or self.mode is None:
            return True
        value = base.meta["val"]
        args, kwargs = fx.map_arg((node.args[1:], node.kwargs), lambda n: n.meta["val"])
        with self.mode:
            result = node.target(value, *args, **kwargs)  # type: ignore[operator]
        return bool(result.untyped_storage()._cdata == value.untyped_storage()._cdata)

    def _track(self, node: fx.Node, bases: list[fx.Node]) -> None:
        if len(bases) > 1:
            raise NeedsDecomposition(f"{node.target} returns views of several tensors, and one is written to")
        if bases:
            self.base[node] = bases[0]
        if not isinstance(node.meta.get("val"), Tensor):
            return
        self.root[node] = root = self.root[bases[0]] if bases else node
        self.value[node] = (self.version.setdefault(root, 0), node)

    def _read(self, node: fx.Node) -> fx.Node:
        """The present value of an original node; a stale view is taken again from its base."""
        node = self.same.get(node, node)
        if node not in self.root:
            return node
        present = self.version[self.root[node]]
        version, value = self.value[node]
        if version != present:
            value = replay(node, self._read(self.base[node]), self._make)
            self.value[node] = (present, value)
        return value

    def _write(self, node: fx.Node, targets: list[fx.Node]) -> None:
        target = self.same.get(targets[0], targets[0])
        if len(targets) > 1 or target not in self.root:
            raise NeedsDecomposition(f"{node.target} writes to several tensors")
        changed = self._result(node, self._read(target))
        self.same[node] = target
        updates = {target: changed}
        while target in self.base:
            base = self.base[target]
            try:
                changed = restore(target, self._read(base), changed, self._make)
            except NoInverse as error:
                raise NeedsDecomposition(f"{node.target} writes through {error}") from error
            updates[base] = changed
            target = base
        self.version[target] += 1
        self.value.update({n: (self.version[target], value) for n, value in updates.items()})

    def _result(self, node: fx.Node, old: fx.Node) -> fx.Node:
        """The functional form of in-place ``node``, a value with shape and dtype of ``old``."""
        if node.target in _FILLS:
            value = node.args[1] if len(node.args) > 1 else 0
            return self._make(_aten.full_like.default, old, value)
        if node.target in _COPIES:
            return self._broadcast(self._cast(node.args[1], old), old)  # type: ignore[arg-type]
        op = overload(node)
        assert op is not None
        twin = _functional_twin(op)
        if all(n.meta["val"].dtype == old.meta["val"].dtype for n in node.all_input_nodes if _is_tensor(n)):
            return self._make(twin, *node.args, val=old.meta["val"], **node.kwargs)
        return self._cast(self._make(twin, *node.args, **node.kwargs), old)

    def _cast(self, value: fx.Node, like: fx.Node) -> fx.Node:
        dtype = like.meta["val"].dtype
        if value.meta["val"].dtype == dtype:
            return value
        return self._make(_aten._to_copy.default, value, dtype=dtype)

    def _broadcast(self, value: fx.Node, like: fx.Node) -> fx.Node:
        if tuple(value.meta["val"].shape) == tuple(like.meta["val"].shape):
            return value
        return self._make(_aten.expand.default, value, sizes_of(like, self._make))

    def _make(self, target: Any, *args: Any, val: Any = None, **kwargs: Any) -> fx.Node:
        with self.graph.inserting_before(self.at):
            new = self.graph.call_function(target, args, kwargs)
        new.meta = {
            key: self.at.meta[key] for key in ("nn_module_stack", "stack_trace") if key in self.at.meta
        }
        if val is not None:
            new.meta["val"] = val
        elif self.mode is not None:
            fake_args, fake_kwargs = fx.map_arg((args, kwargs), lambda n: n.meta["val"])
            with self.mode:
                new.meta["val"] = target(*fake_args, **fake_kwargs)
        normalise(new)
        return new


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def drop_dead(graph: fx.Graph) -> None:
    """Remove every node whose value nobody reads; the graph must be functional."""
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in ("call_function", "get_attr"):
            graph.erase_node(node)
