"""``Editor``: how a pass rewrites a graph. It copies the graph, shares the tensors, and keeps meta complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode

from fxc.compiler.errors import PassError
from fxc.compiler.fakes import fresh, is_plain
from fxc.compiler.origin import Origin, derive, identifier, label_of, origin_of, set_origin
from fxc.compiler.program import OWN_STATE, Note, Program, attributes_used, graph_module_of


class Editor:
    """A private copy of a program's graph, being changed.

    Nodes made through :meth:`call` and :meth:`constant` carry ``meta["val"]`` and an origin. Nothing of the original
    program changes; parameter storage is shared.
    """

    def __init__(self, program: Program, made_by: str):
        self.program, self.made_by = program, made_by
        self.graph = fx.Graph()
        self.graph.output(self.graph.graph_copy(program.graph, {}))
        self._output_meta(program)
        self.tensors: dict[str, Tensor] = attributes_used(program.graph_module)
        self.modified = False
        self.notes: list[Note] = []
        self._mode = program.fake_mode
        self._made: dict[Any, Any] = {}

    def _output_meta(self, program: Program) -> None:
        old, new = next(iter(reversed(program.graph.nodes))), next(iter(reversed(self.graph.nodes)))
        new.meta = dict(old.meta)

    @contextmanager
    def before(self, node: fx.Node) -> Iterator[None]:
        """Insert new nodes before ``node``."""
        with self.graph.inserting_before(node):
            yield

    @contextmanager
    def after(self, node: fx.Node) -> Iterator[None]:
        """Insert new nodes directly after ``node``; after an input, behind the last of the inputs."""
        while node.op == "placeholder" and node.next.op == "placeholder":
            node = node.next
        with self.graph.inserting_after(node):
            yield

    def call(
        self,
        target: Any,
        args: tuple[Any, ...],
        *,
        origins: tuple[fx.Node, ...],
        suffix: str = "",
        val: Any = None,
        kwargs: dict[str, Any] | None = None,
    ) -> fx.Node:
        """A new ``call_function`` node at the insertion point.

        Args:
            target: an ATen or fxc operator overload.
            args, kwargs: nodes and literals.
            origins: nodes whose work the new one does; their layers and source lines carry over.
            suffix: appended to the first origin's label, ``".quantize"``.
            val: the fake value, when it is known to equal another node's; else it is computed.
        """
        origin = derive(origins, self.made_by, suffix)
        node = self.graph.create_node(
            "call_function", target, args, kwargs or {}, name=identifier(origin.label)
        )
        node.meta["val"] = self._value(node) if val is None else val
        for key in ("nn_module_stack", "stack_trace"):
            if key in origins[0].meta:
                node.meta[key] = origins[0].meta[key]
        set_origin(node, origin)
        self.modified = True
        return node

    def _value(self, node: fx.Node) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        key = (node.target, _geometry(args), _geometry(kwargs))
        if key not in self._made:
            # As torch.export traces; some kernels would else ask for a symbolic size's number and fix it for good.
            with self._mode, enable_python_dispatcher(), _no_guards(self._mode):
                self._made[key] = node.target(*args, **kwargs)  # type: ignore[operator]
        return self._made[key]

    def _fake(self, tensor: Tensor) -> Tensor:
        """The fake value of a tensor of the program's; shapes are static: a weight's size is never a symbol."""
        key = _geometry(tensor)
        if key not in self._made:
            self._made[key] = self._mode.from_tensor(tensor.detach(), static_shapes=True)
        return self._made[key]

    def like(self, node: fx.Node, dtype: torch.dtype) -> Tensor:
        """The fake value of what has ``node``'s shape and memory order, and the element type ``dtype``."""
        key = (torch.empty_like, _geometry(node.meta["val"]), dtype)
        if key not in self._made:
            self._made[key] = self._empty_like(node.meta["val"], dtype)
        return self._made[key]

    def _empty_like(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        with _no_guards(self._mode):
            if is_plain(value):
                return fresh(self._mode, value.shape, dtype)
            with self._mode:
                return torch.empty_like(value, dtype=dtype)

    def constant(self, tensor: Tensor, name: str, *, origins: tuple[fx.Node, ...]) -> fx.Node:
        """A ``get_attr`` node for a new tensor of the compiler's own; ``name`` is made unique."""
        target = self._free(f"{OWN_STATE}.{identifier(name)}")
        self.tensors[target] = tensor
        node = self.graph.get_attr(target)
        node.meta["val"] = self._fake(tensor)
        set_origin(
            node, Origin(label=name, layers=derive(origins, self.made_by).layers, made_by=self.made_by)
        )
        self.modified = True
        return node

    def _free(self, target: str) -> str:
        candidate, n = target, 0
        while candidate in self.tensors:
            n += 1
            candidate = f"{target}_{n}"
        return candidate

    def tensor(self, node: fx.Node) -> Tensor:
        """The tensor that a ``get_attr`` node reads."""
        return self.tensors[str(node.target)]

    def set_tensor(self, node: fx.Node, tensor: Tensor) -> None:
        """Let ``get_attr`` node read ``tensor`` under the same name. The caller knows that it has no other reader."""
        self.tensors[str(node.target)] = tensor
        node.meta["val"] = self._fake(tensor)
        self.modified = True

    def retarget(
        self,
        node: fx.Node,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None = None,
        *,
        val: Any = None,
    ) -> None:
        """Let ``node`` compute the same value by another operator or other arguments; its name and origin stay.

        Args:
            target: an ATen or fxc operator overload.
            args, kwargs: nodes and literals.
            val: the fake value if it differs from the old one, as for an operator that returned a tuple before.
        """
        node.target, node.args, node.kwargs = target, args, kwargs or {}
        if val is not None:
            node.meta["val"] = val
        self.modified = True

    def revalue(self, node: fx.Node) -> None:
        """Compute ``node``'s fake value anew, after a change of shape in what it reads."""
        node.meta["val"] = self._value(node)
        self.modified = True

    def absorb(self, node: fx.Node, *others: fx.Node) -> None:
        """Record that ``node`` now also does the work of ``others``; its label stays its own."""
        origin = origin_of(node)
        layers = derive((node, *others), self.made_by).layers
        set_origin(node, replace(origin, layers=layers))

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Let every user of ``old`` read ``new``, and erase ``old``."""
        old.replace_all_uses_with(new)
        self.erase(old)

    def erase(self, node: fx.Node) -> None:
        """Remove a node without users."""
        self.graph.erase_node(node)
        self.modified = True

    def sweep(self) -> int:
        """Remove every ``call_function`` node whose value nothing reads and that has no effect; how many went."""
        count = 0
        for node in reversed(list(self.graph.nodes)):
            if node.op == "call_function" and not node.users and not has_effect(node.target):
                self.erase(node)
                count += 1
        return count

    def note(self, text: str, *, kind: str = "info", node: fx.Node | None = None) -> None:
        """Record something for the report."""
        self.notes.append(Note(kind, text, label_of(node) if node is not None else None, self.made_by))

    def finish(self, **changes: Any) -> Program:
        """The rewritten program: unused parameters dropped, the graph checked.

        Args:
            changes: other fields of :class:`Program` to replace.
        """
        for node in reversed(list(self.graph.nodes)):
            if node.op == "get_attr" and not node.users:
                self.graph.erase_node(node)
        try:
            self.graph.lint()
        except RuntimeError as error:
            raise PassError(f"{self.made_by} left a malformed graph: {error}") from error
        return replace(self.program, graph_module=graph_module_of(self.tensors, self.graph), **changes)


def _no_guards(mode: FakeTensorMode) -> AbstractContextManager[None]:
    return nullcontext() if mode.shape_env is None else mode.shape_env.suppress_guards()


def has_effect(target: Any) -> bool:
    """Whether calling ``target`` does more than return a value: its schema mutates, or it returns nothing."""
    schema = getattr(target, "_schema", None)
    return schema is not None and (schema.is_mutable or not schema.returns)


def _geometry(value: Any) -> Any:
    """What of a fake value decides about the shape, dtype and memory of whatever is computed from it; hashable."""
    if isinstance(value, Tensor):
        sizes = tuple(map(_size, (*value.shape, *value.stride(), value.storage_offset())))
        return Tensor, type(value), value.dtype, value.device, value.layout, value.dim(), sizes
    if isinstance(value, (list, tuple)):
        return tuple(map(_geometry, value))
    if isinstance(value, dict):
        return tuple((name, _geometry(value[name])) for name in value)
    # 1, 1.0 and True are equal in Python and are different arguments.
    return type(value), _size(value)


def _size(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def detached(tensor: Tensor) -> Tensor:
    """The tensor's values as a plain tensor without gradient."""
    return tensor.detach() if isinstance(tensor, torch.nn.Parameter) else tensor
