"""The values that a loaded graph's nodes carry: shapes and dtypes, computed with fake tensors in one sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

from fxc.compiler.errors import ArtifactError
from fxc.compiler.origin import where
from fxc.compiler.program import InputSpec
from fxc.compiler.serialize_values import dtype_of


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
    symbols = {name: _symbol(mode, name, sizes.get(name, 2)) for name in _names(inputs)}
    with torch.no_grad(), mode:
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


def _names(inputs: tuple[InputSpec, ...]) -> list[str]:
    return list(dict.fromkeys(d for spec in inputs for d in spec.shape if isinstance(d, str)))


def _symbol(mode: FakeTensorMode, name: str, size: int) -> Any:
    environment = mode.shape_env
    assert environment is not None
    source = ConstantSource(name)
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
        return node.target(*args, **kwargs)  # type: ignore[operator]
    # Whatever an operator raises on arguments that a damaged file gave it, the file is at fault.
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise ArtifactError(
            f"{node.target} does not accept its arguments: {text}", where=where(node)
        ) from error
