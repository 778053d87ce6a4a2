"""Names, shapes and dtypes of a program's flat inputs and outputs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from fxc.compiler.capture.lift import Lifted
from fxc.compiler.errors import CaptureError
from fxc.compiler.origin import identifier, label_of, unique_label
from fxc.compiler.program import InputSpec, OutputSpec, Program, output_node

_PLAIN = (int, float, bool, str, type(None))


class Dimensions:
    """Names of dynamic dimensions: a leading axis is the batch, others are called as the tracer does.

    Args:
        one_batch: the leading axes of all inputs were made dynamic together, so all of them are the batch; else only
            the first one's symbol is.
    """

    def __init__(self, one_batch: bool):
        self.one_batch = one_batch
        self.names: dict[str, str] = {}

    @classmethod
    def of_inputs(cls, program: Program, graph: fx.Graph) -> Dimensions:
        """The names that the inputs of a finished program use."""
        dims = cls(one_batch=False)
        placeholders = [node for node in graph.nodes if node.op == "placeholder"]
        for spec, node in zip(program.tensor_inputs, placeholders):
            for name, size in zip(spec.shape, node.meta["val"].shape):
                if isinstance(name, str):
                    dims.names[str(size)] = name
        return dims

    def of(self, value: Tensor) -> tuple[tuple[int | str, ...], str]:
        """Shape with named dimensions, and dtype by name."""
        shape = tuple(
            size if isinstance(size, int) else self.names.get(str(size), str(size)) for size in value.shape
        )
        return shape, str(value.dtype).removeprefix("torch.")

    def add_input(self, value: Tensor) -> None:
        """Name the leading axis of an input."""
        size: Any = value.shape[0] if value.dim() else 0
        if isinstance(size, int) or not size.node.expr.is_symbol:
            return
        if self.one_batch or not self.names:
            self.names.setdefault(str(size), "batch")


def specs_of(
    lifted: Lifted, graph: fx.Graph, *, one_batch: bool
) -> tuple[tuple[InputSpec, ...], tuple[OutputSpec, ...]]:
    """Flat input and output specs of a lifted graph; a frozen output has none.

    Raises:
        CaptureError: an argument that is neither tensor nor number, text or ``None``.
    """
    dims = Dimensions(one_batch)
    inputs = _input_specs(graph, lifted.frozen_inputs, dims)
    taken = {spec.name for spec in inputs}
    leaves = enumerate(_leaf_names(lifted.out_spec))
    names = [unique_label(n, taken) for place, n in leaves if place not in lifted.frozen_outputs]
    nodes: Any = output_node(graph).args[0]
    return inputs, tuple(OutputSpec(n, *dims.of(node.meta["val"])) for n, node in zip(names, nodes))


def _input_specs(
    graph: fx.Graph, frozen: dict[int, tuple[str, Any]], dims: Dimensions
) -> tuple[InputSpec, ...]:
    nodes = [node for node in graph.nodes if node.op == "placeholder"]
    for node in nodes:
        dims.add_input(node.meta["val"])
    placeholders = iter(nodes)
    specs: list[InputSpec] = []
    for place in range(len(frozen) + len(nodes)):
        if place in frozen:
            name, value = frozen[place]
            specs.append(InputSpec(name, (), "constant", _plain(name, value)))
        else:
            node = next(placeholders)
            specs.append(InputSpec(label_of(node), *dims.of(node.meta["val"])))
    return tuple(specs)


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, _PLAIN):
        raise CaptureError(
            f"argument {name} is a {type(value).__name__}",
            why="an argument is a tensor, or a number, text or None that is fixed at capture",
            fix="pass tensors, and set everything else on the model",
        )
    return value


def _leaf_names(out_spec: pytree.TreeSpec) -> list[str]:
    """A name per flat output: its keys in the model's result, ``output`` for a lone tensor."""
    tree = pytree.tree_unflatten(list(range(out_spec.num_leaves)), out_spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    return [identifier("_".join(_key_text(key) for key in path)) if path else "output" for path in paths]


def _key_text(key: Any) -> str:
    """Text of one step into a nested result: a dictionary's key, a field's name, ``output0`` for a place."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            value = getattr(key, attribute)
            return f"output{value}" if isinstance(value, int) else str(value)
    return str(key)
