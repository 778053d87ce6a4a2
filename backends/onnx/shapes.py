"""Sizes: torch's symbolic integers as numbers, as names of dimensions, or as tensors computed by the file."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import sympy
import torch

from fxc.backends.onnx.writer import Size, Symbolic, Tensor, Unlowerable, Writer
from fxc.compiler.program import Program

aten = torch.ops.aten


class Sizes:
    """What every symbolic size of a program is in the file.

    Args:
        values: torch's symbols as numbers or as names of dynamic dimensions; others stand for themselves.
    """

    def __init__(self, values: Mapping[sympy.Symbol, sympy.Expr]):
        self._values = values
        self._known: dict[sympy.Expr, int | str] = {}

    @classmethod
    def of(cls, program: Program, batch: int | None) -> Sizes:
        """Placeholders' symbols get the names that the input specs give them.

        Args:
            batch: the number that the dimension ``"batch"`` is fixed to; ``None`` keeps it dynamic.
        """
        values: dict[sympy.Symbol, sympy.Expr] = {}
        placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
        for spec, node in zip(program.tensor_inputs, placeholders):
            for name, dim in zip(spec.shape, node.meta["val"].shape):
                if isinstance(name, str) and isinstance(dim, torch.SymInt):
                    fixed = batch is not None and name == "batch"
                    size = sympy.Integer(batch) if fixed else sympy.Symbol(name, integer=True, positive=True)
                    values.update(dict.fromkeys(dim.node.expr.free_symbols, size))
        return cls(values)

    def value(self, dim: int | torch.SymInt) -> int | str:
        """A number, or the text of an expression in the names of dynamic dimensions."""
        if not isinstance(dim, torch.SymInt):
            return int(dim)
        expression = dim.node.expr
        if expression not in self._known:
            self._known[expression] = _size(expression.xreplace(self._values))
        return self._known[expression]

    def shape(self, tensor: torch.Tensor) -> tuple[int | str, ...]:
        """The shape of a fake tensor."""
        return tuple(self.value(d) for d in tensor.shape)


def _size(expression: sympy.Expr) -> int | str:
    return int(expression) if expression.is_number else str(expression).replace(" ", "")


_ARITHMETIC: Mapping[Callable[..., Any], str] = MappingProxyType(
    {
        operator.add: "Add",
        operator.sub: "Sub",
        operator.mul: "Mul",
        operator.floordiv: "Div",
        operator.mod: "Mod",
    }
)


def symbolic(g: Writer, target: Any, args: tuple[Any, ...], text: str) -> Size:
    """A size that the file computes: the lowering of ``sym_size`` and of arithmetic on sizes.

    Args:
        target: ``aten.sym_size.int`` or a function of the :mod:`operator` module.
        args: a tensor and an axis, or sizes.
        text: the result in terms of the dynamic dimensions.

    Raises:
        Unlowerable: another function.
    """
    if target is aten.sym_size.int:
        return g.size(args[0], args[1])
    if target not in _ARITHMETIC:
        raise Unlowerable(f"{getattr(target, '__name__', target)} on a dynamic size has no lowering")
    operands = [a.tensor if isinstance(a, Symbolic) else g.ints([a]) for a in args]
    return Symbolic(g.op(_ARITHMETIC[target], *operands), text)


def reshape_sizes(x: Tensor, wanted: list[Size]) -> list[Size]:
    """``wanted`` with as few sizes to compute as possible, in the words of ONNX Reshape.

    A dynamic size that ``x`` has at the same place is 0 (copy), one more may be -1 (infer).
    """
    if any(not isinstance(w, Symbolic) and w == 0 for w in wanted):
        return wanted
    copied = [0 if _copies(x, i, w) else w for i, w in enumerate(wanted)]
    open_places = [i for i, w in enumerate(copied) if isinstance(w, Symbolic)]
    if len(open_places) == 1 and -1 not in copied:
        copied[open_places[0]] = -1
    return copied


def _copies(x: Tensor, place: int, wanted: Size) -> bool:
    return isinstance(wanted, Symbolic) and place < len(x.shape) and x.shape[place] == wanted.text
