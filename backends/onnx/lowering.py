"""``Lowering``: one record per operator, which lowers a node and answers whether it can be lowered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import onnx_graphsurgeon as gs

from fxc.backends.onnx.writer import Tensor, Unlowerable, Writer
from fxc.compiler.errors import FxcError, LegalityError
from fxc.compiler.extension import Functions, unknown_parameters

Result: TypeAlias = Tensor | tuple[Tensor | None, ...]
"""One tensor, or one per result of an operator that has several (``None``: that result has no lowering)."""

_NO_MEANING = frozenset(
    {
        "layout", "device", "pin_memory", "memory_format", "non_blocking", "copy",
        "cudnn_enabled", "cudnn_enable", "momentum", "sparse_grad", "requires_grad",
    }
)  # fmt: skip
"""Schema arguments that say nothing about the values of a forward pass outside training."""


@dataclass(frozen=True)
class Lowering:
    """How one operator overload becomes ONNX.

    Attributes:
        target: the operator overload.
        build: ``build(writer, **arguments) -> tensor(s)``; its parameters after the first are a choice of the
            schema's own argument names. It raises :class:`Unlowerable` where it must decline.
        parameters: the arguments that ``build`` takes.
        foreign: ``build`` belongs to an extension: what it raises is not a fault of fxc.
    """

    target: Any
    build: Callable[..., Result]
    parameters: frozenset[str]
    foreign: bool = False

    def __call__(self, writer: Writer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Result:
        """Write the node.

        Args:
            args, kwargs: of the FX node, with nodes replaced by tensors or sizes.

        Raises:
            Unlowerable: with the reason.
            LegalityError: the function of an extension failed.
        """
        arguments = self._bind(args, kwargs)
        return self._guarded(writer, arguments) if self.foreign else self.build(writer, **arguments)

    def _guarded(self, writer: Writer, arguments: Mapping[str, Any]) -> Result:
        try:
            result = self.build(writer, **arguments)
        except (Unlowerable, FxcError):
            raise
        # Whatever another package's function raises, the user must read whose function it was.
        except Exception as error:
            raise self._failed(writer, f"{type(error).__name__}: {error}") from error
        if reason := self._no_result(result):
            raise self._failed(writer, reason)
        return result

    def _no_result(self, result: Any) -> str | None:
        """Why ``result`` cannot stand for the operator's results, or ``None``."""
        returns = self.target._schema.returns
        if len(returns) == 1 and str(returns[0].type) == "Tensor":
            return (
                None
                if isinstance(result, gs.Tensor)
                else f"it returned {result!r}, not a tensor of the writer"
            )
        if not isinstance(result, tuple) or not all(r is None or isinstance(r, gs.Tensor) for r in result):
            return f"it returned {result!r}, not a tuple of the writer's tensors"
        if len(returns) > 1 and len(result) != len(returns):
            return f"it returned {len(result)} tensors, the operator has {len(returns)}"
        return None

    def _failed(self, writer: Writer, why: str) -> LegalityError:
        return LegalityError(
            f"{writer.label}: the lowering of {self.target} by an extension failed",
            where=f"{self.build.__module__}.{self.build.__qualname__}",
            why=why,
            fix="a fault of the extension",
        )

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        for position, argument in enumerate(self.target._schema.arguments):
            default = argument.default_value
            value = args[position] if position < len(args) else kwargs.get(argument.name, default)
            if argument.name in self.parameters:
                bound[argument.name] = value
            elif argument.name not in _NO_MEANING and not _same(value, default):
                raise Unlowerable(f"argument {argument.name}={value!r} has no lowering")
        return bound


def lowerings(functions: Mapping[Any, Callable[..., Result]]) -> Mapping[Any, Lowering]:
    """Records for ``functions``, by operator overload.

    Raises:
        TypeError: a function takes an argument that its operator's schema does not have.
    """
    return MappingProxyType({target: _record(target, build) for target, build in functions.items()})


def foreign(functions: Functions) -> Mapping[Any, Lowering]:
    """Records for the functions of an extension."""
    return {target: _record(target, build, foreign=True) for target, build in functions.items()}


def _record(target: Any, build: Callable[..., Result], *, foreign: bool = False) -> Lowering:
    if unknown := unknown_parameters(build, target):
        known = sorted(argument.name for argument in target._schema.arguments)
        raise TypeError(f"{build.__name__} takes {unknown}, which {target} does not have: {known}")
    return Lowering(target, build, frozenset(list(inspect.signature(build).parameters)[1:]), foreign)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
