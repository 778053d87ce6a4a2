"""What pruning knows about operators: one rule each, gathered from the files by kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fxc.passes.prune import conv, index, matmul, norm, pointwise, reduce, reshape, shape, spatial
from fxc.passes.prune.flow import Rule

RULES: Mapping[Any, Rule] = MappingProxyType(
    {
        **pointwise.RULES,
        **conv.RULES,
        **norm.RULES,
        **matmul.RULES,
        **spatial.RULES,
        **shape.RULES,
        **reshape.RULES,
        **index.RULES,
        **reduce.RULES,
    }
)
"""By operator overload; an operator without one pins what it reads, and the report says so."""
