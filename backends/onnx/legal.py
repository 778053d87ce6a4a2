"""Can this be written as ONNX? The lowering table, asked without writing a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import fx

from fxc.backends.onnx.dtypes import to_array, to_numpy_dtype
from fxc.backends.onnx.lowering import Lowering
from fxc.backends.onnx.shapes import Sizes
from fxc.backends.onnx.table import TABLE
from fxc.backends.onnx.translate import Translator
from fxc.backends.onnx.writer import Symbolic, Unlowerable, Writer
from fxc.compiler.backend import Violation
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program, attribute
from fxc.compiler.target import Limits

WAYS_OUT = (
    "cut the graph before it (outputs=…), replace it in the model or by a substitution pass, "
    "or give it a lowering (fxc.compile(extensions=[…]))"
)


def lowerable(node: fx.Node, *, opset: int = 17, table: Mapping[Any, Lowering] = TABLE) -> str | None:
    """Why ``node`` cannot be written as ONNX, or ``None`` if it can. Lowers it into a scratch writer."""
    if node.op != "call_function":
        return None
    translator = Translator(Writer(opset), Sizes({}), table)
    try:
        for source in node.all_input_nodes:
            translator.values[source] = _stand_in(source, translator.sizes)
        translator.call(node)
    except Unlowerable as reason:
        return str(reason)
    return None


def _stand_in(node: fx.Node, sizes: Sizes) -> Any:
    value = node.meta["val"]
    if node.op == "get_attr" and isinstance(value, torch.Tensor) and to_numpy_dtype(value.dtype) is not None:
        tensor = attribute(node.graph.owning_module, str(node.target))  # type: ignore[arg-type]
        return gs.Constant(str(node.target), to_array(tensor))
    if isinstance(value, (tuple, list)):
        return tuple(_variable(node.name, v, sizes) for v in value)
    if isinstance(value, (torch.SymInt, int)):
        known = sizes.value(value)
        return Symbolic(gs.Variable(node.name, torch.int64, (1,)), known) if isinstance(known, str) else known
    if not isinstance(value, torch.Tensor):
        raise Unlowerable(f"{label_of(node)} is a Python number that depends on the values of the input")
    return _variable(node.name, value, sizes)


def _variable(name: str, value: torch.Tensor, sizes: Sizes) -> gs.Variable:
    dtype = to_numpy_dtype(value.dtype)
    if dtype is None:
        raise Unlowerable(f"ONNX has no tensors of {value.dtype}")
    return gs.Variable(name, dtype, sizes.shape(value))


def violations(
    program: Program,
    *,
    opset: int,
    limits: Limits,
    format: str = "ONNX",
    table: Mapping[Any, Lowering] = TABLE,
) -> list[Violation]:
    """Everything in ``program`` that cannot be written at ``opset`` or is outside a target's ``limits``."""
    found: list[Violation] = []
    for node in program.graph.nodes:
        reason = lowerable(node, opset=opset, table=table)
        if reason is not None:
            rule = f"{op_name(node)} cannot be written as {format} opset {opset}: {reason}"
            found.append(_violation(node, rule, WAYS_OUT))
        else:
            found.extend(_limit_violations(node, limits))
    return found


def _limit_violations(node: fx.Node, limits: Limits) -> Iterator[Violation]:
    value = node.meta.get("val")
    for tensor in value if isinstance(value, (tuple, list)) else (value,):
        if not isinstance(tensor, torch.Tensor):
            continue
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in limits.dtypes:
            yield _violation(
                node, f"{dtype} tensors are not supported", f"use one of {', '.join(limits.dtypes)}"
            )
        if limits.max_rank is not None and tensor.dim() > limits.max_rank:
            rule = f"rank {tensor.dim()} is above the limit of {limits.max_rank}"
            yield _violation(node, rule, "merge dimensions in the model")


def _violation(node: fx.Node, rule: str, fix: str) -> Violation:
    return Violation(layer=label_of(node), source=origin_of(node).source, rule=rule, fix=fix)
