"""A program as the ``ExportedProgram`` that Apple's converters read: fixed shapes, our node names, the converter's spelling.

The graph is functional ATen already, so the model is not traced again: every node is copied under its own name, which the
converter then gives to what it makes of it. Symbolic sizes become numbers on the way.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree
from torch.utils._sympy.value_ranges import ValueRanges

from fxc.backends.apple.decompose import Table, nodes_of, traced
from fxc.backends.apple.spelling import Call, Spellings, spelled
from fxc.compiler.errors import LegalityError
from fxc.compiler.origin import identifier, where
from fxc.compiler.program import Program


@dataclass(frozen=True)
class Style:
    """How a converter wants a program.

    Attributes:
        reader: what reads it, in words.
        spellings: of operators that it wants written otherwise.
        table: decompositions of operators that it wants taken apart.
        half: whether float32 becomes float16 inside; inputs and outputs stay as they are.
    """

    reader: str
    spellings: Spellings
    table: Table = field(default_factory=dict)
    half: bool = False


def exported(program: Program, style: Style, *, batch: int | None = 1) -> ExportedProgram:
    """``program`` with a batch of ``batch``, where its batch is dynamic; ``None`` leaves it so.

    Inputs and nodes keep their names; those of parameters are prefixed, so that they never meet them.

    Raises:
        LegalityError: an operator whose result cannot be known without values.
    """
    return _Export(program, style, batch).finish()


def batch_of(program: Program) -> int:
    """The batch in the file: 1, from which a larger one is put together, unless an output does not lead with the batch."""
    apart = all(o.shape and isinstance(o.shape[0], str) for o in program.outputs)
    if apart or not program.dynamic or not program.example_inputs:
        return 1
    sizes = [
        x.shape[0]
        for x, s in zip(program.example_inputs, program.tensor_inputs)
        if s.shape and isinstance(s.shape[0], str)
    ]
    return int(sizes[0]) if sizes else 1


def weight_name(target: str) -> str:
    """What a parameter is called in the exported graph: prefixed, so that it never meets a layer."""
    return f"w_{identifier(target)}"


class _Export:
    def __init__(self, program: Program, style: Style, batch: int | None):
        self.program, self.style, self.batch, self.graph = program, style, batch, fx.Graph()
        self.mode = FakeTensorMode(allow_non_fake_inputs=True) if batch else program.fake_mode
        self.values: dict[fx.Node, Any] = {}
        self.names: dict[str, str] = {}
        self.state: dict[str, Tensor] = {}
        self.specs: list[InputSpec] = []
        self._weights()
        self._inputs()
        for node in program.graph.nodes:
            if node.op == "call_function":
                self._call(node)

    def _weights(self) -> None:
        for node in self.program.graph.nodes:
            if node.op == "get_attr":
                target = str(node.target)
                if target not in self.names:
                    self.names[target] = weight_name(target)
                    tensor = self._halved(self.program.tensor(target).detach())
                    self.state[target] = tensor
                    self._placeholder(
                        node, self.names[target], self.mode.from_tensor(tensor, static_shapes=True)
                    )
                    kind = InputSpec(
                        InputKind.BUFFER, TensorArgument(self.values[node].name), target, persistent=True
                    )
                    self.specs.append(kind)
                else:
                    self.values[node] = next(v for n, v in self.values.items() if str(n.target) == target)

    def _halved(self, tensor: Tensor) -> Tensor:
        return tensor.half() if self.style.half and tensor.dtype is torch.float32 else tensor

    def _inputs(self) -> None:
        nodes = [n for n in self.program.graph.nodes if n.op == "placeholder"]
        for node, spec in zip(nodes, self.program.tensor_inputs, strict=True):
            self._placeholder(node, identifier(spec.name), self._input(node, spec))
            self.specs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(self.values[node].name), None))
        for node in nodes if self.style.half else ():
            if self.values[node].meta["val"].dtype is torch.float32:
                self.values[node] = self._cast(node, torch.float16, f"{self.values[node].name}_half")

    def _input(self, node: fx.Node, spec: Any) -> Any:
        if self.batch is None:
            return node.meta["val"]
        shape = [self.batch if isinstance(d, str) else d for d in spec.shape]
        with self.mode:
            return torch.empty(shape, dtype=getattr(torch, spec.dtype))

    def _placeholder(self, node: fx.Node, name: str, value: Any) -> None:
        made = self.graph.placeholder(name)
        # A name that Python has already is changed by FX, and the signature goes by the changed one.
        made.target = made.name
        made.meta["val"] = value
        self.values[node] = made

    def _cast(self, node: fx.Node, dtype: torch.dtype, name: str) -> fx.Node:
        call = Call(torch.ops.aten._to_copy.default, (self.values[node],), {"dtype": dtype})
        return self._node(node, call, name)

    def _call(self, node: fx.Node) -> None:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        if not any(isinstance(a, fx.Node) for a in pytree.tree_leaves((args, kwargs))):
            self.values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        elif node.target is torch.ops.aten.sym_size.int and self.batch is not None:
            self.values[node] = args[0].meta["val"].shape[args[1]]
        elif node.target is operator.getitem and not isinstance(args[0], fx.Node):
            self.values[node] = args[0][args[1]]
        else:
            call = Call(node.target, *self._dtypes(args, kwargs))
            self.values[node] = self._spelled(node, call, node.name)

    def _dtypes(self, args: Any, kwargs: Any) -> Any:
        """Arguments that say float32 say float16 where that is what floats are."""
        if not self.style.half:
            return args, kwargs
        return pytree.tree_map(lambda a: torch.float16 if a is torch.float32 else a, (args, kwargs))

    def _spelled(self, node: fx.Node, call: Call, name: str, *, apart: bool = False) -> Any:
        """The call as the converter wants it; the last node has the name.

        Args:
            apart: whether it came out of a decomposition: it is taken apart no further.
        """
        count = itertools.count()

        def emit(target: Any, *given: Any, **named: Any) -> Any:
            return self._written(node, Call(target, given, named), f"{name}_part{next(count)}")

        wanted = spelled(self.style.spellings, call, emit)
        if apart and wanted is call:
            return self._node(node, call, name)
        return self._written(node, wanted, name)

    def _written(self, node: fx.Node, call: Call, name: str) -> Any:
        """The call as a node, or as those that it is taken apart into."""
        if call.target not in self.style.table:
            return self._node(node, call, name)
        with self._explained(node):
            graph = traced(call, self.mode, self.style.table)
        return self._inlined(node, graph, call, name)

    def _inlined(self, node: fx.Node, graph: fx.Graph, call: Call, name: str) -> Any:
        values: dict[fx.Node, Any] = {}
        given = iter(nodes_of(call))
        *inner, output = graph.nodes
        for i, each in enumerate(inner):
            if each.op == "placeholder":
                values[each] = next(given)
                continue
            args, kwargs = fx.map_arg((each.args, each.kwargs), lambda n: values[n])
            own = name if each is inner[-1] else f"{name}_op{i}"
            values[each] = self._spelled(node, Call(each.target, args, kwargs), own, apart=True)
        return fx.map_arg(output.args[0], lambda n: values[n])

    def _node(self, node: fx.Node, call: Call, name: str) -> fx.Node:
        made = self.graph.create_node("call_function", call.target, call.args, dict(call.kwargs), name=name)
        args, kwargs = fx.map_arg((made.args, made.kwargs), lambda n: n.meta["val"])
        with self._explained(node), self.mode, enable_python_dispatcher(), self._no_guards():
            # In rows: PyTorch composes some operators of writes where channels lie last, and no reader knows of strides.
            made.meta["val"] = pytree.tree_map_only(Tensor, Tensor.contiguous, call.target(*args, **kwargs))
        return made

    def _no_guards(self) -> AbstractContextManager[None]:
        sizes = self.mode.shape_env
        return nullcontext() if sizes is None else sizes.suppress_guards()

    def _explained(self, node: fx.Node) -> _Explained:
        return _Explained(node, self.style.reader)

    def finish(self) -> ExportedProgram:
        outputs: list[fx.Node] = []
        for node in self.program.output_nodes():
            outputs.append(self._output(node, outputs))
        self.graph.output(tuple(outputs))
        signature = ExportGraphSignature(
            self.specs, [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(o.name), None) for o in outputs]
        )
        users = [s for s in self.specs if s.kind is InputKind.USER_INPUT]
        in_spec = pytree.tree_structure((tuple(users), {}))
        out_spec = pytree.tree_structure(tuple(outputs))
        return _program(self.graph, signature, self.state, in_spec, out_spec, self._ranges())

    def _ranges(self) -> dict[Any, ValueRanges[Any]]:
        """The symbol of a dynamic batch: what may stand for it, the inputs' shapes say."""
        sizes = [d for s in self.specs if (d := self._leading(s)) is not None]
        return {size.node.expr: ValueRanges(1, 2**31 - 1) for size in sizes}

    def _leading(self, spec: InputSpec) -> Any:
        node = next(n for n in self.graph.nodes if n.name == spec.arg.name)  # type: ignore[union-attr]
        shape = node.meta["val"].shape
        return shape[0] if spec.kind is InputKind.USER_INPUT and len(shape) and _symbolic(shape[0]) else None

    def _output(self, node: fx.Node, before: list[fx.Node]) -> fx.Node:
        """The converters want outputs apart from inputs, weights and each other."""
        made: fx.Node = self.values[node]
        if self.style.half and made.meta["val"].dtype is torch.float16:
            return self._cast(node, torch.float32, f"{made.name}_output_{len(before)}")
        if made.op != "placeholder" and made not in before:
            return made
        return self._node(
            node, Call(torch.ops.aten.mul.Scalar, (made, 1)), f"{made.name}_output_{len(before)}"
        )


class _Explained:
    """Whatever an operator's own shape rule raises is told with the model's line."""

    def __init__(self, node: fx.Node, reader: str):
        self.node, self.reader = node, reader

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (RuntimeError, TypeError, ValueError, IndexError)):
            raise LegalityError(
                f"{self.node.name} cannot be written for {self.reader}",
                where=where(self.node),
                why=str(error).splitlines()[0],
            ) from error


def _symbolic(size: Any) -> bool:
    return isinstance(size, torch.SymInt)


def _program(
    graph: fx.Graph,
    signature: ExportGraphSignature,
    state: Mapping[str, Tensor],
    in_spec: pytree.TreeSpec,
    out_spec: pytree.TreeSpec,
    ranges: dict[Any, ValueRanges[Any]],
) -> ExportedProgram:
    from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature

    entry = ModuleCallEntry("", ModuleCallSignature([], [], in_spec, out_spec))
    return ExportedProgram(
        root=nn.Module(),
        graph=graph,
        graph_signature=signature,
        state_dict=dict(state),
        range_constraints=ranges,
        module_call_graph=[entry],
    )
