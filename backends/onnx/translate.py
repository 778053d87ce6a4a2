"""From FX nodes to ONNX nodes: arguments resolved, the table asked, results named after the model's layers."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import fx

from fxc.backends.onnx.dtypes import to_array, to_numpy_dtype
from fxc.backends.onnx.lowering import Lowering, Result
from fxc.backends.onnx.shapes import Sizes, symbolic
from fxc.backends.onnx.writer import Size, Tensor, Unlowerable, Writer
from fxc.compiler.origin import label_of, op_name


class Translator:
    """Lowers nodes one after the other and remembers what each became.

    Args:
        writer: collects the ONNX nodes.
        sizes: says what symbolic sizes are in the file.
        table: the lowering table.
    """

    def __init__(self, writer: Writer, sizes: Sizes, table: Mapping[Any, Lowering]):
        self.writer, self.sizes, self.table = writer, sizes, table
        self.values: dict[fx.Node, Result | Size] = {}
        self._named: set[int] = set()

    def input(self, node: fx.Node, name: str) -> gs.Variable:
        """The graph input that stands for a placeholder."""
        made = gs.Variable(name)
        self._settle(node, made, node.meta["val"])
        return made

    def parameter(self, node: fx.Node, tensor: torch.Tensor) -> None:
        """The initialiser that stands for a ``get_attr`` node; it keeps the parameter's name."""
        if to_numpy_dtype(tensor.dtype) is None:
            raise Unlowerable(f"ONNX has no tensors of {tensor.dtype}")
        made = self.writer.named(str(node.target), to_array(tensor))
        self._named.add(id(made))
        self.values[node] = made

    def call(self, node: fx.Node) -> None:
        """Lower a ``call_function`` node.

        Raises:
            Unlowerable: with the reason.
        """
        value = node.meta["val"]
        if isinstance(value, (torch.SymInt, int)):
            self.values[node] = self._size(node, value)
        elif node.target is operator.getitem:
            self._settle(node, self._item(node), value)
        else:
            self._settle(node, self._lowered(node, value), value)

    def _lowered(self, node: fx.Node, value: Any) -> Result:
        lowering = self.table.get(node.target)
        if lowering is None:
            raise Unlowerable(f"{op_name(node)} has no lowering")
        self._describe(node, value[0] if isinstance(value, (tuple, list)) else value)
        args, kwargs = self._argument(node.args), self._argument(node.kwargs)
        return lowering(self.writer, args, kwargs)

    def _describe(self, node: fx.Node, value: torch.Tensor) -> None:
        dtype = to_numpy_dtype(value.dtype)
        if dtype is None:
            raise Unlowerable(f"ONNX has no tensors of {value.dtype}")
        self.writer.label, self.writer.dtype = label_of(node), dtype
        self.writer.shape = self.sizes.shape(value)

    def _size(self, node: fx.Node, value: torch.SymInt | int) -> Size:
        known = self.sizes.value(value)
        if not isinstance(known, str):
            return known
        self.writer.label = label_of(node)
        return symbolic(self.writer, node.target, self._argument(node.args), known)

    def _item(self, node: fx.Node) -> Tensor:
        source, place = node.args
        item = self.values[source][place]  # type: ignore[index]
        if item is None:
            raise Unlowerable(f"result {place} of {op_name(source)} has no lowering")  # type: ignore[arg-type]
        return item

    def _argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self.values[value]
        if isinstance(value, (list, tuple)):
            return type(value)(self._argument(v) for v in value)
        if isinstance(value, dict):
            return {name: self._argument(v) for name, v in value.items()}
        return self.sizes.value(value) if isinstance(value, torch.SymInt) else value

    def _settle(self, node: fx.Node, result: Result, value: Any) -> None:
        self.values[node] = result
        results = result if isinstance(result, tuple) else (result,)
        values = value if isinstance(value, (tuple, list)) else (value,)
        for tensor, fake in zip(results, values):
            if tensor is not None:
                self._name(node, tensor, fake)

    def _name(self, node: fx.Node, tensor: Tensor, fake: torch.Tensor) -> None:
        """Give a new tensor its layer's name, dtype and shape; one that an earlier node made keeps its own."""
        if id(tensor) in self._named and node.target is not operator.getitem:
            return
        self._named.add(id(tensor))
        if node.op == "call_function":
            tensor.name = self.writer.fresh(label_of(node))
            if tensor.inputs:
                tensor.inputs[0].name = tensor.name
        if isinstance(tensor, gs.Variable):
            tensor.dtype, tensor.shape = to_numpy_dtype(fake.dtype), self.sizes.shape(fake)
