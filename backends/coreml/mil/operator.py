"""What an operator of MIL is here: a function, and how its arguments are given to it.

A function has the operator's name and its parameters, by the names and with the defaults of the MIL operator reference. A
parameter's annotation says what it is called with: a ``Tensor``, or Python values where the operator takes them as settings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from fxc.compiler.errors import FxcError, LegalityError

Ints = tuple[int, ...]
IntList = tuple[int, ...]
Bools = tuple[bool, ...]
Tensors = list[Tensor]
Values = list[Any]
"""The words of annotations: ``Ints`` are a tensor's numbers, an ``IntList`` the numbers of several tensors."""


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"a tensor is needed, not {type(value).__name__}")
    return value


def _listed(value: Any) -> list[Any]:
    given = value.flatten().tolist() if isinstance(value, Tensor) else value
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _one(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


CONVERTERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "Tensor": _tensor,
        "Tensors": lambda values: [_tensor(v) for v in (values if isinstance(values, list) else [values])],
        "Ints": lambda value: tuple(int(v) for v in _listed(value)),
        "Bools": lambda value: tuple(bool(v) for v in _listed(value)),
        "IntList": lambda values: tuple(
            int(_one(v)) for v in (values if isinstance(values, list) else [values])
        ),
        "int": lambda value: int(_one(value)),
        "float": lambda value: float(_one(value)),
        "bool": lambda value: bool(_one(value)),
        "str": str,
        "Values": lambda values: values if isinstance(values, list) else [values],
    }
)
"""A parameter's annotation to what makes such an argument of a value."""


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: MIL's.
        call: its function.
        arguments: parameter to the converter of its values.
        required: parameters without a default.
    """

    name: str
    call: Callable[..., Any]
    arguments: Mapping[str, Callable[[Any], Any]]
    required: frozenset[str]


def operator(function: Callable[..., Any]) -> Operator:
    """The operator of a function; a name that Python keeps for itself ends in an underscore."""
    given = inspect.signature(function).parameters
    parameters = {name: p for name, p in given.items() if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    kinds = {name: str(p.annotation).removesuffix(" | None") for name, p in parameters.items()}
    required = frozenset(name for name, p in parameters.items() if p.default is inspect.Parameter.empty)
    arguments = {name: CONVERTERS[kind] for name, kind in kinds.items()}
    return Operator(function.__name__.rstrip("_"), function, MappingProxyType(arguments), required)


def table(*groups: Iterable[Callable[..., Any]]) -> Mapping[str, Operator]:
    """Operators by name."""
    found = [operator(function) for group in groups for function in group]
    return MappingProxyType({op.name: op for op in found})


def refuse(parameter: str, value: object) -> FxcError:
    """The error for a setting that is not known here."""
    return LegalityError(
        f"{parameter} = {value!r} is not known", why="it is none of the MIL operator reference's values"
    )
