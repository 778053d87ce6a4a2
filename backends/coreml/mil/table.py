"""Every operator of MIL that is known here, by name."""

from __future__ import annotations

from fxc.backends.coreml.mil import (
    activation,
    classify,
    constexpr,
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
    unary,
)
from fxc.backends.coreml.mil.operator import table

TABLE = table(
    activation.OPERATORS,
    classify.OPERATORS,
    constexpr.OPERATORS,
    conv.OPERATORS,
    create.OPERATORS,
    elementwise.OPERATORS,
    index.OPERATORS,
    matmul.OPERATORS,
    norm.OPERATORS,
    pool.OPERATORS,
    quantize.OPERATORS,
    reduce.OPERATORS,
    resize.OPERATORS,
    shape.OPERATORS,
    unary.OPERATORS,
)
