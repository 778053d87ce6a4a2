"""What every target refuses about a model, found before any pass runs: its parameters' types and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fxc.compiler.backend import Violation
from fxc.compiler.finite import all_finite
from fxc.compiler.program import Program, attributes_used


def unsound(program: Program) -> list[Violation]:
    """Parameters that are not float32, or not finite; buffers (masks, tables, counters) may be anything."""
    tensors = attributes_used(program.graph_module)
    parameters = {name: t for name, t in tensors.items() if isinstance(t, nn.Parameter)}
    return [*_other_dtypes(parameters), *_not_numbers(parameters)]


def _other_dtypes(parameters: Mapping[str, Tensor]) -> Iterator[Violation]:
    for name, tensor in parameters.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            dtype = str(tensor.dtype).removeprefix("torch.")
            yield Violation(
                name,
                None,
                f"the parameter is {dtype}; fxc starts from float32 and lowers the precision for the target itself",
                "model.float(), and example_inputs in float32",
            )


def _not_numbers(parameters: Mapping[str, Tensor]) -> Iterator[Violation]:
    for name, tensor in parameters.items():
        if not all_finite(tensor.detach()):
            fix = "load a checkpoint whose training did not diverge"
            yield Violation(name, None, "the parameter holds NaN or infinity", fix)
