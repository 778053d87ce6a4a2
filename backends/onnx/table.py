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
from fxc.backends.onnx.lowering import Lowering

_KINDS = (activation, conv, create, elementwise, index, matmul, norm, pool, quantize, reduce, resize, shape)

TABLE: Mapping[Any, Lowering] = MappingProxyType(
    {target: lowering for kind in _KINDS for target, lowering in kind.LOWERINGS.items()}
)
"""Operator overload to its lowering."""
