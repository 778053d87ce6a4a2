"""``Writer``: what a lowering function writes ONNX nodes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from fxc.backends.onnx.dtypes import Array, is_float, promoted
from fxc.compiler.origin import unique_label

Tensor: TypeAlias = gs.Tensor
"""A value in the ONNX graph. One that stands for an FX node has its dtype and shape (ints, or names of dynamic sizes)."""


class Unlowerable(Exception):
    """A lowering declines a node; the message is the reason."""


@dataclass(frozen=True)
class Symbolic:
    """A size that is not known before the file runs.

    Attributes:
        tensor: int64 tensor of shape [1] that holds it.
        text: the size in terms of the dynamic dimensions, ``"batch"`` or ``"2*batch"``.
    """

    tensor: Tensor
    text: str


Size: TypeAlias = int | Symbolic
Scalar: TypeAlias = int | float | bool


class Writer:
    """Collects ONNX nodes. While one FX node is lowered, ``label``, ``dtype`` and ``shape`` describe its result.

    Attributes:
        opset: of the file.
        nodes: the ONNX nodes so far, in topological order.
        label: the FX node's label: intermediate tensors are named after it.
        dtype, shape: dtype and shape of the FX node's (first) result.
        constants: initialisers made so far, by name.
    """

    def __init__(self, opset: int, taken: set[str] | None = None):
        self.opset = opset
        self.nodes: list[gs.Node] = []
        self.constants: dict[str, gs.Constant] = {}
        self.taken = set() if taken is None else taken
        self.label = "node"
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.shape: tuple[int | str, ...] = ()

    def op(self, kind: str, *inputs: Tensor | None, **attributes: Any) -> Tensor:
        """Add a node with one output. ``None`` stands for an input that is left out."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Tensor | None, outputs: int, **attributes: Any) -> tuple[Tensor, ...]:
        """Add a node with several outputs."""
        name = self.fresh(f"{self.label}/{kind}")
        names = [name] + [self.fresh(f"{name}.{i}") for i in range(1, outputs)]
        made = [gs.Variable(n) for n in names]
        present = [gs.Variable.empty() if i is None else i for i in inputs]
        self.nodes.append(gs.Node(kind, name=name, attrs=attributes, inputs=present, outputs=made))
        return tuple(made)

    def fresh(self, wanted: str) -> str:
        """``wanted``, made unique among all names of the file."""
        return unique_label(wanted, self.taken)

    def constant(self, value: Any, dtype: Any = None, name: str | None = None) -> gs.Constant:
        """An initialiser; a Python scalar stays 0-d.

        Args:
            value: array, scalar or (nested) list.
            dtype: defaults to the result's dtype for Python scalars and lists, to its own for an array.
            name: defaults to one derived from the label.
        """
        if dtype is None and not isinstance(value, (np.ndarray, np.generic)):
            dtype = self.dtype
        values = np.asarray(value, dtype=dtype)
        made = gs.Constant(self.fresh(name or f"{self.label}/constant"), values)
        self.constants[made.name] = made
        return made

    def named(self, name: str, values: Array) -> gs.Constant:
        """The initialiser called ``name``: made on first use, shared afterwards."""
        return self.constants.get(name) or self.constant(values, name=name)

    def as_dtype(self, value: Tensor | Scalar | Symbolic, dtype: Any = None) -> Tensor:
        """``value`` as a tensor of ``dtype`` (default: the result's): a scalar is made constant, a tensor is cast."""
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        if isinstance(value, Symbolic):
            return self.op("Cast", self.squeeze(value.tensor, 0), to=dtype.type)
        if not isinstance(value, gs.Tensor):
            return self.constant(value, dtype)
        if value.dtype is None or value.dtype == dtype:
            return value
        if isinstance(value, gs.Constant) and value.values.size <= 1:
            return self.constant(value.values.astype(dtype))
        return self.op("Cast", value, to=dtype.type)

    def together(self, a: Tensor | Scalar, b: Tensor | Scalar) -> tuple[Tensor, Tensor]:
        """Both operands in the dtype in which PyTorch would compare or combine them."""
        dtype = _common(a, b)
        return self.as_dtype(a, dtype), self.as_dtype(b, dtype)

    def ints(self, values: Sequence[Size]) -> Tensor:
        """A 1-D int64 tensor of sizes: constant if all are known, else put together when the file runs."""
        if not any(isinstance(v, Symbolic) for v in values):
            return self.constant(np.asarray(values, np.int64).reshape(-1))
        parts = [v.tensor if isinstance(v, Symbolic) else self.constant([v], np.int64) for v in values]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def shape_of(self, x: Tensor) -> Tensor:
        """The shape of ``x`` for a Reshape back to it: constant with at most one -1 where possible."""
        if sum(isinstance(d, str) for d in x.shape) > 1:
            return self.op("Shape", x)
        return self.ints([-1 if isinstance(d, str) else d for d in x.shape])

    def reshape(self, x: Tensor, shape: Sequence[Size]) -> Tensor:
        """Reshape to known sizes (one may be -1)."""
        return self.op("Reshape", x, self.ints(shape))

    def unsqueeze(self, x: Tensor, *axes: int) -> Tensor:
        """Insert dimensions of size one at ``axes`` of the result."""
        return self.op("Unsqueeze", x, self.ints(axes))

    def squeeze(self, x: Tensor, *axes: int) -> Tensor:
        """Drop dimensions of size one."""
        return self.op("Squeeze", x, self.ints(axes))

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Permute dimensions; a constant is permuted now, without a node."""
        if isinstance(x, gs.Constant):
            suffix = ".transposed" if len(order) == 2 else f".permuted{''.join(map(str, order))}"
            return self.named(x.name + suffix, np.transpose(x.values, order))
        return self.op("Transpose", x, perm=list(order))

    def slice(self, x: Tensor, axis: int, start: Size, end: Size, step: int = 1) -> Tensor:
        """``x[start:end:step]`` along one axis."""
        return self.op("Slice", x, self.ints([start]), self.ints([end]), self.ints([axis]), self.ints([step]))

    def size(self, x: Tensor, axis: int) -> Size:
        """One dimension of ``x``."""
        dim = x.shape[axis]
        if not isinstance(dim, str):
            return int(dim)
        axis = axis % len(x.shape)
        return Symbolic(self.op("Gather", self.op("Shape", x), self.constant([axis], np.int64), axis=0), dim)

    def known(self, x: Tensor, axis: int) -> int:
        """A dimension of ``x`` that must be a number; declines otherwise."""
        dim = x.shape[axis]
        if isinstance(dim, str):
            self.refuse(f"dimension {axis} must be a fixed number, it is {dim}")
        return int(dim)

    def need_opset(self, opset: int, what: str) -> None:
        """Decline below ``opset``."""
        if self.opset < opset:
            self.refuse(f"{what} needs ONNX opset {opset}, the target takes {self.opset}")

    def refuse(self, reason: str) -> NoReturn:
        """Decline the node that is being lowered."""
        raise Unlowerable(reason)


def _common(a: Tensor | Scalar, b: Tensor | Scalar) -> np.dtype[Any]:
    if isinstance(a, gs.Tensor) and isinstance(b, gs.Tensor):
        # PyTorch lets a tensor with dimensions decide over a 0-d one of the same kind; a comparison is none the wiser.
        return promoted(a.dtype, b.dtype)
    tensor, scalar = (a, b) if isinstance(a, gs.Tensor) else (b, a)
    if isinstance(scalar, float) and not is_float(tensor.dtype):  # type: ignore[union-attr]
        return np.dtype(np.float32)
    return tensor.dtype  # type: ignore[union-attr]
