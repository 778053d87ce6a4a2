"""A program as the ``ExportedProgram`` that coremltools' converter reads: fixed shapes, our node names, its spelling of Q/DQ.

The graph is functional ATen already, so nothing is traced again: every node is copied under its own name, which the converter
then gives to what it makes of it. Symbolic sizes become numbers on the way.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
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

from fxc.backends.coreml.names import weight_name
from fxc.backends.coreml.spelling import Call, spelled
from fxc.compiler.errors import LegalityError
from fxc.compiler.origin import identifier, where
from fxc.compiler.program import Program


def exported(program: Program, *, batch: int | None = 1) -> ExportedProgram:
    """``program`` with a batch of ``batch``, where its batch is dynamic; ``None`` leaves it so.

    Inputs and nodes keep their names; those of parameters are prefixed, so that they never meet them.

    Raises:
        LegalityError: an operator whose result cannot be known without values.
    """
    return _Export(program, batch).finish()


class _Export:
    def __init__(self, program: Program, batch: int | None):
        self.program, self.batch, self.graph = program, batch, fx.Graph()
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
                    tensor = self.program.tensor(target).detach()
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

    def _inputs(self) -> None:
        nodes = [n for n in self.program.graph.nodes if n.op == "placeholder"]
        for node, spec in zip(nodes, self.program.tensor_inputs, strict=True):
            self._placeholder(node, identifier(spec.name), self._input(node, spec))
            self.specs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(self.values[node].name), None))

    def _input(self, node: fx.Node, spec: Any) -> Any:
        if self.batch is None:
            return node.meta["val"]
        shape = [self.batch if isinstance(d, str) else d for d in spec.shape]
        with self.mode:
            return torch.empty(shape, dtype=getattr(torch, spec.dtype))

    def _placeholder(self, node: fx.Node, name: str, value: Any) -> None:
        made = self.graph.placeholder(name)
        made.meta["val"] = value
        self.values[node] = made

    def _call(self, node: fx.Node) -> None:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: self.values[n])
        if not any(isinstance(a, fx.Node) for a in pytree.tree_leaves((args, kwargs))):
            self.values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            return
        if node.target is torch.ops.aten.sym_size.int and self.batch is not None:
            self.values[node] = args[0].meta["val"].shape[args[1]]
            return
        self.values[node] = self._spelled(node, args, kwargs)

    def _spelled(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        count = itertools.count()

        def emit(target: Any, *given: Any) -> fx.Node:
            return self._node(node, Call(target, given), f"{node.name}_part{next(count)}")

        return self._node(node, spelled(node.target, emit, args, kwargs), node.name)

    def _node(self, node: fx.Node, call: Call, name: str) -> fx.Node:
        made = self.graph.create_node("call_function", call.target, call.args, dict(call.kwargs), name=name)
        args, kwargs = fx.map_arg((made.args, made.kwargs), lambda n: n.meta["val"])
        try:
            with self.mode, enable_python_dispatcher(), self._no_guards():
                made.meta["val"] = call.target(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise LegalityError(
                f"{node.name} cannot be written for Core ML",
                where=where(node),
                why=str(error).splitlines()[0],
            ) from error
        return made

    def _no_guards(self) -> AbstractContextManager[None]:
        sizes = self.mode.shape_env
        return nullcontext() if sizes is None else sizes.suppress_guards()

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
        """The converter wants outputs apart from inputs, weights and each other."""
        made: fx.Node = self.values[node]
        if made.op != "placeholder" and made not in before:
            return made
        return self._node(
            node, Call(torch.ops.aten.mul.Scalar, (made, 1)), f"{made.name}_output_{len(before)}"
        )


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
