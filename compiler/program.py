"""``Program``: the one object that passes carry. A graph, what goes in, what comes out, and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx._lazy_graph_module import _LazyGraphModule
from torch.utils import _pytree as pytree

import fxc.compiler.qdq  # noqa: F401  the graph's quantize and dequantize operators exist once this is imported
from fxc.compiler.errors import InputError, PassError

OWN_STATE = "_fxc"
"""Submodule that holds tensors which are not the model's: lifted constants, folded weights' scales."""


@dataclass(frozen=True)
class InputSpec:
    """One flat input of a program.

    Attributes:
        name: the model's name for it.
        shape: one entry per dimension, an int or the name of a dynamic one (``"batch"``).
        dtype: torch dtype by name, ``"float32"``; ``"constant"`` for an argument that is not a tensor.
        value: the argument's value if it is a constant (int, float, bool, str or None).
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    value: int | float | bool | str | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the argument was fixed at capture and has no placeholder."""
        return self.dtype == "constant"

    def __str__(self) -> str:
        if self.is_constant:
            return f"{self.name} = {self.value!r}"
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class OutputSpec:
    """One flat output of a program: its name, shape and dtype as in :class:`InputSpec`."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class Note:
    """Something a person should be able to read in the report.

    Attributes:
        kind: ``"info"``, ``"warning"``, ``"declined"`` (a rule's near miss) or ``"float"`` (a tensor left in float).
        text: one sentence.
        layer: the layer it is about, if any.
        by: the pass or rule that says it.
    """

    kind: str
    text: str
    layer: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class FoldedNorm:
    """Batch-norm statistics that folding consumed: the distribution of a tensor in the float model.

    ``mean`` and ``var`` are those of the batch norm's *input*, ``weight`` and ``bias`` its affine part, each float32
    ``[channels]``; the tensor after the norm has mean ``bias`` and standard deviation ``|weight|`` per channel.
    """

    mean: Tensor
    var: Tensor
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Program:
    """A captured model: functional ATen operators over the model's own parameters.

    Attributes:
        graph_module: placeholders are the flat tensor inputs, ``get_attr`` nodes the parameters, buffers and
            constants, every other node a ``call_function``; the output node's argument is a flat tuple.
        inputs, outputs: flat specs; ``in_spec`` and ``out_spec`` are the trees of ``(args, kwargs)`` and the result.
        name: the model's name.
        notes: what capture and passes want said in the report.
        folded_norms: batch-norm statistics consumed by folding, by the label of the node that now carries the norm.
        facts: names of properties that hold (``"canonical"``), set by passes and required by others.
        history: text form of every pass that modified the program.
        example_inputs: flat tensors that fit ``inputs``, used to check promises.
        frozen_outputs: results that are no tensors (``None``, numbers), by their flat position in the model's result;
            neither ``outputs`` nor the graph has them, :meth:`unflatten` puts them back.
    """

    graph_module: fx.GraphModule
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    name: str = "model"
    notes: tuple[Note, ...] = ()
    folded_norms: Mapping[str, FoldedNorm] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()
    history: tuple[str, ...] = ()
    example_inputs: tuple[Tensor, ...] = ()
    frozen_outputs: Mapping[int, Any] = field(default_factory=dict)

    @property
    def graph(self) -> fx.Graph:
        """The graph of :attr:`graph_module`."""
        return self.graph_module.graph

    @property
    def fake_mode(self) -> FakeTensorMode:
        """The fake-tensor mode in which every node's ``meta["val"]`` lives."""
        for node in self.graph.nodes:
            if isinstance(node.meta.get("val"), FakeTensor):
                return node.meta["val"].fake_mode
        raise PassError("the program has no fake tensor values", why="capture sets meta['val'] on every node")

    @property
    def tensor_inputs(self) -> tuple[InputSpec, ...]:
        """The inputs that have a placeholder."""
        return tuple(spec for spec in self.inputs if not spec.is_constant)

    @property
    def dynamic(self) -> bool:
        """Whether any input dimension is dynamic."""
        return any(isinstance(d, str) for spec in self.inputs for d in spec.shape)

    def tensor(self, target: str) -> Tensor:
        """The parameter, buffer or constant at dotted path ``target``."""
        return attribute(self.graph_module, target)

    def output_nodes(self) -> tuple[fx.Node, ...]:
        """The nodes whose values are the flat outputs."""
        return tuple(output_node(self.graph).args[0])  # type: ignore[arg-type]

    def run_flat(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run on flat tensor inputs without checks or gradients."""
        from fxc.compiler.execute import run_graph

        return run_graph(self, inputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run on the model's own arguments; the result has the model's own structure.

        Raises:
            InputError: wrong structure, count, shape or dtype.
        """
        return self.unflatten(self.run_flat(*self.flatten(args, kwargs)))

    def flatten(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> tuple[Tensor, ...]:
        """Flat tensor inputs of a call, checked against :attr:`inputs`; positional ones may be given by name.

        Raises:
            InputError: wrong structure, count, shape or dtype.
        """
        args, kwargs = self._bind(tuple(args), dict(kwargs or {}))
        ordered = _order_kwargs(kwargs, self.in_spec)
        leaves, spec = pytree.tree_flatten((args, ordered))
        if spec != self.in_spec or len(leaves) != len(self.inputs):
            raise self._structure_error(len(leaves))
        check_inputs(self.name, self.inputs, leaves)
        return tuple(leaf for leaf, s in zip(leaves, self.inputs) if not s.is_constant)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``f(x=…)`` for what was captured as ``f(x)``."""
        positional = self.in_spec.child(0)
        if not all(positional.child(i).is_leaf() for i in range(positional.num_children)):
            return args, kwargs
        absent = [spec.name for spec in self.inputs[len(args) : positional.num_children]]
        if all(name in kwargs for name in absent):
            args = (*args, *(kwargs.pop(name) for name in absent))
        return args, kwargs

    def _structure_error(self, given: int) -> InputError:
        positional, names = self.in_spec.child(0).num_children, list(self.in_spec.child(1).context)
        what = f"{self.name} takes {len(self.inputs)} input(s), got {given}"
        if given == len(self.inputs):
            what = (
                f"{self.name} takes {given} input(s), got them in another structure than it was captured with"
            )
        by_name = f" and {', '.join(names)} by keyword" if names else ""
        return InputError(
            what,
            why="inputs: " + "; ".join(map(str, self.inputs)),
            fix=f"call it as it was captured: {positional} positional argument(s){by_name}",
        )

    def first_rows(self, flat: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
        """Flat inputs cut to ``count`` samples; inputs without a dynamic leading axis are left whole."""
        cut = (bool(spec.shape) and isinstance(spec.shape[0], str) for spec in self.tensor_inputs)
        return tuple(x[:count] if short else x for short, x in zip(cut, flat))

    def unflatten(self, outputs: tuple[Any, ...]) -> Any:
        """The model's own output structure around flat outputs."""
        leaves = list(outputs)
        for place in sorted(self.frozen_outputs):
            leaves.insert(place, self.frozen_outputs[place])
        return pytree.tree_unflatten(leaves, self.out_spec)

    def module(self) -> nn.Module:
        """An ordinary trainable module with the model's parameter names; it shares this program's parameters."""
        from fxc.compiler.module import ProgramModule

        return ProgramModule(self)

    def note(self, *notes: Note) -> Program:
        """This program with notes added."""
        return replace(self, notes=self.notes + notes)


def graph_module_of(tensors: Mapping[str, Tensor], graph: fx.Graph) -> fx.GraphModule:
    """A graph with the tensors that it reads, in inference mode; the others of ``tensors`` are left out.

    Python code is generated for it only when somebody calls it: most programs are looked at, or run node by node.
    """
    return _LazyGraphModule(dict(tensors), graph).eval()


def attribute(module: nn.Module, target: str) -> Any:
    """The attribute of ``module`` at a dotted path."""
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    return value


def output_node(graph: fx.Graph) -> fx.Node:
    """The graph's output node."""
    return next(iter(reversed(graph.nodes)))


def attributes_used(graph_module: fx.GraphModule) -> dict[str, Tensor]:
    """Every tensor that a ``get_attr`` node reads, by its dotted path."""
    nodes: Iterator[fx.Node] = (n for n in graph_module.graph.nodes if n.op == "get_attr")
    return {str(n.target): attribute(graph_module, str(n.target)) for n in nodes}


def check_inputs(name: str, specs: tuple[InputSpec, ...], leaves: list[Any]) -> None:
    """Check flat inputs against their specs; equal dynamic dimension names must have equal sizes, at least 1.

    Raises:
        InputError: naming the input, what it is and what it must be.
    """
    sizes: dict[str, int] = {}
    for spec, leaf in zip(specs, leaves):
        if spec.is_constant:
            if isinstance(leaf, Tensor) or leaf != spec.value:
                raise InputError(
                    f"{name}: argument {spec.name} was fixed to {spec.value!r} at capture, got {leaf!r}"
                )
            continue
        if not isinstance(leaf, Tensor):
            raise InputError(
                f"{name}: input {spec.name} must be a tensor, got {type(leaf).__name__}",
                fix="torch.from_numpy(x)" if type(leaf).__name__ == "ndarray" else None,
            )
        if str(leaf.dtype).removeprefix("torch.") != spec.dtype:
            got = str(leaf.dtype).removeprefix("torch.")
            raise InputError(
                f"{name}: input {spec.name} has dtype {got}, expected {spec.dtype}",
                fix=f"x.to(torch.{spec.dtype})",
            )
        fits = leaf.dim() == len(spec.shape) and all(
            0 < size == sizes.setdefault(want, size) if isinstance(want, str) else size == want
            for size, want in zip(leaf.shape, spec.shape)
        )
        if not fits:
            raise InputError(
                f"{name}: input {spec.name} has shape {list(leaf.shape)}, expected [{', '.join(map(str, spec.shape))}]",
                fix=_shape_fix(spec, leaf),
            )


def _shape_fix(spec: InputSpec, leaf: Tensor) -> str | None:
    if leaf.dim() == len(spec.shape) - 1:
        return "the first axis counts samples: x.unsqueeze(0) adds it"
    if leaf.dim() == len(spec.shape) and list(leaf.shape[1:]) == list(spec.shape[1:]):
        if leaf.shape[0] == 0:
            return "pass at least one sample"
        return (
            "all inputs of a call have the same, captured batch size; dynamic_batch=True at capture frees it"
        )
    return None


def _order_kwargs(kwargs: dict[str, Any], in_spec: pytree.TreeSpec) -> dict[str, Any]:
    wanted = list(in_spec.child(1).context)
    if set(kwargs) != set(wanted):
        return kwargs
    return {key: kwargs[key] for key in wanted}
