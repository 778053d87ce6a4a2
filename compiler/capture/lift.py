"""``ExportedProgram`` to a graph whose parameters are ``get_attr`` nodes, in one walk.

``ExportedProgram.module()`` does the same in time quadratic in the number of layers.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, SymIntArgument
from torch.utils import _pytree as pytree

from fxc.compiler.capture.inline import inline, is_region
from fxc.compiler.errors import CaptureError
from fxc.compiler.origin import identifier
from fxc.compiler.program import OWN_STATE

_META = ("val", "nn_module_stack", "stack_trace")
_CHECKS = (
    "_assert_async",
    "_assert_scalar",
    "_assert_tensor_metadata",
    "_functional_assert_async",
    "_functional_assert_scalar",
    "sym_constrain_range",
    "sym_constrain_range_for_size",
)
"""Operators that compute nothing: the program checks its inputs itself."""


@dataclass
class Lifted:
    """A lifted graph, still with the exporter's node names, and the tensors that its ``get_attr`` nodes read.

    Attributes:
        graph: placeholders are tensor inputs; the output node holds a flat tuple of nodes.
        tensors: by ``get_attr`` target, the model's own parameter and buffer objects.
        frozen_inputs: flat position to value, of arguments that are not tensors.
        frozen_outputs: flat position to value, of results that are not tensors.
        state: ``get_attr`` nodes of parameters and buffers, as opposed to constants.
    """

    graph: fx.Graph
    tensors: dict[str, Tensor]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    frozen_inputs: dict[int, tuple[str, Any]]
    frozen_outputs: dict[int, Any]
    state: set[fx.Node]


def lift(exported: ExportedProgram) -> Lifted:
    """Copy the exported graph with parameters, buffers and constants as attributes, input checks dropped.

    Raises:
        CaptureError: an input or output that is neither a tensor nor a constant.
    """
    in_spec, out_spec = exported.call_spec.in_spec, exported.call_spec.out_spec
    assert in_spec is not None
    assert out_spec is not None
    lifted = Lifted(fx.Graph(), {}, in_spec, out_spec, {}, {}, set())
    values: dict[fx.Node, Any] = {}
    specs = iter(exported.graph_signature.input_specs)
    position = 0
    names = {id(tensor): name for name, tensor in reversed(exported.state_dict.items())}
    for node in exported.graph_module.graph.nodes:
        if node.op == "placeholder":
            spec = next(specs)
            values[node] = _lift_placeholder(exported, lifted, node, spec, position, names)
            position += spec.kind is InputKind.USER_INPUT
        elif node.op == "output":
            _lift_outputs(exported, lifted, node, values)
        elif node.op == "get_attr":
            values[node] = _lift_attribute(exported, lifted, node)
        elif is_region(node):
            values[node] = inline(lifted.graph, node, values, _META)
        elif node.target is operator.getitem and isinstance(values.get(node.args[0]), list):  # type: ignore[arg-type]
            values[node] = values[node.args[0]][node.args[1]]  # type: ignore[index]
        elif not _is_check(node):
            values[node] = _copied(lifted.graph.node_copy(node, lambda n: values[n]), node)
    return lifted


def _lift_placeholder(
    exported: ExportedProgram, lifted: Lifted, node: fx.Node, spec: Any, position: int, names: dict[int, str]
) -> Any:
    if spec.kind is not InputKind.USER_INPUT:
        return _lift_state(exported, lifted, node, spec, names)
    if isinstance(spec.arg, ConstantArgument):
        lifted.frozen_inputs[position] = (node.name, spec.arg.value)
        return spec.arg.value
    if isinstance(spec.arg, SymIntArgument) or not isinstance(node.meta.get("val"), Tensor):
        raise CaptureError(
            f"input {node.name} is not a tensor and not a constant ({type(node.meta.get('val')).__name__})",
            why="a program's inputs are tensors; numbers are fixed when it is captured",
            fix="export without a dynamic number, or pass it as a 0-d tensor",
        )
    # No node may be called like a builtin: an argument named "input" keeps its name as the node's target and label.
    return _copied(lifted.graph.placeholder(node.name), node)


def _lift_state(
    exported: ExportedProgram, lifted: Lifted, node: fx.Node, spec: Any, names: dict[int, str]
) -> fx.Node:
    if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
        raise CaptureError(
            f"the model carries {spec.target or node.name}, which is not a tensor",
            why=f"inputs of kind {spec.kind.name} cannot be stored in a program",
            fix="keep only tensors (parameters, buffers, constants) on the model",
        )
    constant = spec.kind is InputKind.CONSTANT_TENSOR
    held = exported.state_dict if spec.target in exported.state_dict else exported.constants
    tensor = held[spec.target]
    # A tied parameter has the name under which nn.Module.named_parameters() lists it: the first one.
    target = (
        f"{OWN_STATE}.{identifier(spec.target)}" if constant else names.setdefault(id(tensor), spec.target)
    )
    lifted.tensors[target] = tensor
    new = _copied(lifted.graph.get_attr(target), node)
    if not constant:
        lifted.state.add(new)
    return new


def _lift_attribute(exported: ExportedProgram, lifted: Lifted, node: fx.Node) -> Any:
    value: Any = exported.graph_module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    if isinstance(value, fx.GraphModule):
        return value
    target = f"{OWN_STATE}.{identifier(str(node.target))}"
    lifted.tensors[target] = value
    return _copied(lifted.graph.get_attr(target), node)


def _lift_outputs(
    exported: ExportedProgram, lifted: Lifted, node: fx.Node, values: dict[fx.Node, Any]
) -> None:
    wanted = [
        arg
        for arg, spec in zip(node.args[0], exported.graph_signature.output_specs)  # type: ignore[arg-type]
        if spec.kind is OutputKind.USER_OUTPUT
    ]
    kept: list[fx.Node] = []
    for place, arg in enumerate(wanted):
        result = values[arg] if isinstance(arg, fx.Node) else arg
        if not isinstance(result, fx.Node):
            lifted.frozen_outputs[place] = result
        elif isinstance(result.meta.get("val"), Tensor):
            kept.append(result)
        else:
            raise CaptureError(
                f"output {place} of the model is a size that changes with the input, not a tensor",
                why="a program returns tensors and constants",
                fix="return the tensor and read its shape outside, or capture with dynamic_batch=False",
            )
    lifted.graph.output(tuple(kept))


def _is_check(node: fx.Node) -> bool:
    packet = getattr(node.target, "overloadpacket", None)
    return packet is not None and packet.__name__ in _CHECKS


def _copied(new: fx.Node, old: fx.Node) -> fx.Node:
    new.meta = {key: old.meta[key] for key in _META if key in old.meta}
    return new
