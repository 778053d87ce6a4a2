"""The values that a loaded graph's nodes carry: shapes and dtypes, computed with fake tensors in one sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import LocalSource, TensorProperty, TensorPropertySource
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from fxc.compiler.errors import ArtifactError
from fxc.compiler.origin import where
from fxc.compiler.program import InputSpec
from fxc.compiler.qdq import DEQUANTIZE, QUANTIZE
from fxc.compiler.serialize_values import dtype_of

_UNTAGGED = frozenset({torch.ops.aten.hardswish.default, torch.ops.aten.dropout.default})
"""Operators of one tensor that keep its shape and that ATen does not tag as pointwise."""


def fill_values(
    graph: fx.Graph, tensors: Mapping[str, Tensor], inputs: tuple[InputSpec, ...], sizes: Mapping[str, int]
) -> None:
    """Set ``meta["val"]`` on every node, in a fresh shape environment.

    Args:
        graph: its placeholders are the inputs that are not constants, in order.
        tensors: what the ``get_attr`` nodes read.
        inputs: flat specs; a dimension that is a name becomes a symbol.
        sizes: for each such name the size at capture, at which shape rules are decided where they must be.

    Raises:
        ArtifactError: an operator that does not accept its arguments, by layer.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv())
    waiting = iter([spec for spec in inputs if not spec.is_constant])
    symbols = {d: _symbol(mode, *place, sizes.get(d, 2)) for d, place in _dimensions(inputs).items()}
    # As torch.export traces; some kernels would else ask for a symbolic size's number.
    with torch.no_grad(), mode, enable_python_dispatcher():
        for node in graph.nodes:
            if node.op == "placeholder":
                node.meta["val"] = _input(next(waiting), symbols)
            elif node.op == "get_attr":
                node.meta["val"] = _like(tensors[str(node.target)])
            else:
                node.meta["val"] = _result(node)


def dimension_sizes(graph: fx.Graph, inputs: tuple[InputSpec, ...]) -> dict[str, int]:
    """Size at capture of every dynamic dimension, read from the placeholders' symbols."""
    sizes: dict[str, int] = {}
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, (s for s in inputs if not s.is_constant)):
        for name, size in zip(spec.shape, node.meta["val"].shape):
            if isinstance(name, str):
                hint = size.node.hint if isinstance(size, torch.SymInt) else size
                sizes.setdefault(name, hint if isinstance(hint, int) else 2)
    return sizes


def _dimensions(inputs: tuple[InputSpec, ...]) -> dict[str, tuple[str, int]]:
    """Every dynamic dimension, with the first input and axis that have it."""
    found: dict[str, tuple[str, int]] = {}
    for spec in inputs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                found.setdefault(size, (spec.name, axis))
    return found


def _symbol(mode: FakeTensorMode, name: str, axis: int, size: int) -> Any:
    environment = mode.shape_env
    assert environment is not None
    # The environment names a symbol after its source: this one gives the name that export gives.
    source = TensorPropertySource(LocalSource(name), TensorProperty.SIZE, axis)
    # At 0 or 1 the environment would replace the symbol by the number.
    hint = max(size, 2)
    symbol = environment.create_symbol(
        hint, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=None
    )
    return environment.create_symintnode(symbol, hint=hint, source=source)


def _input(spec: InputSpec, symbols: Mapping[str, Any]) -> Tensor:
    shape = [symbols[d] if isinstance(d, str) else d for d in spec.shape]
    return torch.empty(shape, dtype=dtype_of(spec.dtype))


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)


def _result(node: fx.Node) -> Any:
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    if node.op == "output":
        return args[0]
    try:
        if (dtype := _elementwise(node.target, args, kwargs)) is not None:
            return torch.empty_like(args[0], dtype=dtype)
        return node.target(*args, **kwargs)  # type: ignore[operator]
    # Whatever an operator raises on arguments that a damaged file gave it, the file is at fault.
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise ArtifactError(
            f"{node.target} does not accept its arguments: {text}", where=where(node)
        ) from error


def _elementwise(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.dtype | None:
    """Result dtype of an operator whose result has the shape of its only tensor, else ``None``.

    With symbolic sizes PyTorch decomposes such operators, at ten times the cost; most nodes are one.
    """
    if target in QUANTIZE:
        return args[-1]
    if target in DEQUANTIZE:
        return torch.float32
    known = isinstance(target, OpOverload) and (torch.Tag.pointwise in target.tags or target in _UNTAGGED)
    # A list may hold tensors; a symbolic number would be fixed by the probe.
    others = [
        a for a in (*args, *kwargs.values()) if isinstance(a, (Tensor, list, torch.SymInt, torch.SymFloat))
    ]
    if not known or len(others) != 1 or not isinstance(args[0], Tensor) or target._schema.is_mutable:
        return None
    with unset_fake_temporarily():
        # Dtype rules look at dtypes and at whether there are dimensions, not at sizes.
        probe = target(torch.zeros((1,) * args[0].dim(), dtype=args[0].dtype), *args[1:], **kwargs)
    return probe.dtype if isinstance(probe, Tensor) and probe.dim() == args[0].dim() else None
