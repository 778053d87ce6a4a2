"""The lowering table: every operator that can become ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fxc.backends.onnx import (
    activation,
    conv,
    create,
    elementwise,
    index,
    matmul,
    norm,
    pool,
    quantize,
    reduce,
    resize,
    shape,
)
from fxc.backends.onnx.lowering import Lowering, foreign
from fxc.compiler.extension import Functions

_KINDS = (activation, conv, create, elementwise, index, matmul, norm, pool, quantize, reduce, resize, shape)

TABLE: Mapping[Any, Lowering] = MappingProxyType(
    {target: lowering for kind in _KINDS for target, lowering in kind.LOWERINGS.items()}
)
"""Operator overload to its lowering."""


def extended(functions: Functions) -> Mapping[Any, Lowering]:
    """The table with the lowering functions of extensions, which go before its own.

    Args:
        functions: operator overload to its function, whose parameters are known to fit the schema.
    """
    return MappingProxyType({**TABLE, **foreign(functions)}) if functions else TABLE
