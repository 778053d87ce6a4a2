"""Spelling: how a converter wants the canonical operators written.

A spelling is ``ours -> theirs``, said in its first line. It gets ``emit``, which makes a node before the one it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import fx


class Call(NamedTuple):
    """A call as the converter reads it."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = MappingProxyType({})


Emit = Callable[..., fx.Node]
"""``emit(target, *args, **kwargs)`` makes an intermediate node."""

Spelling = Callable[[Emit, tuple[Any, ...], Mapping[str, Any]], Call]

Spellings = Mapping[Any, Spelling]
"""By operator overload; what is not there is written as it is."""


def spelled(table: Spellings, call: Call, emit: Emit) -> Call:
    """What a call is written as."""
    change = table.get(call.target)
    return change(emit, call.args, call.kwargs) if change is not None else call
