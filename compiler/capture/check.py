"""The captured graph against the model itself, on the example inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from fxc.compiler.capture.explain import explain_call
from fxc.compiler.capture.export import describe, inference
from fxc.compiler.capture.inputs import Example
from fxc.compiler.execute import steps
from fxc.compiler.origin import where
from fxc.compiler.program import Program

_TOLERANCE = 1e-4
"""Relative Euclidean error between graph and model: fused and unfused attention differ by 1e-6."""


def model_outputs(model: nn.Module, example: Example, seed: int = 0) -> list[Any]:
    """Flat outputs of the model in inference mode, with a seed; its buffers stay untouched.

    Raises:
        CaptureError: the model does not run on these inputs.
    """
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with inference(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            result = functional_call(model, buffers, _copied(example.args), _copied(example.kwargs))
        except Exception as error:
            raise explain_call(error, model, describe(example)) from error
    return pytree.tree_leaves(result)


def disagreement(program: Program, expected: list[Any], example: Example) -> str | None:
    """What differs between the program and the model's flat outputs; ``None`` if nothing does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flat = program.flatten(_copied(example.args), _copied(example.kwargs))
        try:
            got = pytree.tree_leaves(program.unflatten(_run(program, flat)))
        except RuntimeError as error:
            return f"the graph fails: {str(error).splitlines()[0]}"
        except _OtherShape as error:
            return str(error)
    return _differences(got, expected)


def is_random(model: nn.Module, example: Example) -> bool:
    """Whether the model's outputs change with the seed, and with nothing else."""
    first, again, other = (model_outputs(model, example, seed) for seed in (0, 0, 1))
    return _differences(again, first) is None and _differences(other, first) is not None


def _differences(got: list[Any], expected: list[Any]) -> str | None:
    if len(got) != len(expected):
        return f"the graph returns {len(got)} values, the model {len(expected)}"
    for place, (value, wanted) in enumerate(zip(got, expected)):
        said = _difference(value, wanted)
        if said:
            return f"output {place}: {said}"
    return None


class _OtherShape(Exception):
    """A value whose shape is not the one that was traced, with these sizes for the dynamic dimensions."""


def _run(program: Program, flat: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The program's flat outputs, every value held against the shape in ``meta["val"]``, which lowerings go by.

    Raises:
        _OtherShape: a value has another shape than was traced.
    """
    sizes: dict[Any, int] = {}
    value: Any = ()
    for node, value in steps(program, flat):
        traced = node.meta.get("val")
        if node.op == "output" or not isinstance(value, Tensor) or not isinstance(traced, Tensor):
            continue
        if node.op == "placeholder":
            _bind(sizes, traced, value)
        wanted = [_size(size, sizes) for size in traced.shape]
        if list(value.shape) != wanted:
            raise _OtherShape(f"{where(node)} gives {list(value.shape)}, traced as {wanted}")
    return value


def _bind(sizes: dict[Any, int], traced: Tensor, value: Tensor) -> None:
    for size, given in zip(traced.shape, value.shape):
        if not isinstance(size, int) and size.node.expr.is_symbol:
            sizes[size.node.expr] = given


def _size(size: Any, sizes: dict[Any, int]) -> int:
    """``size`` as a number; ``sizes`` of symbols learns those of expressions."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    if expression not in sizes:
        sizes[expression] = int(expression.subs(sizes))
    return sizes[expression]


def _copied(values: Any) -> Any:
    """The same arguments in memory of their own: a model may write to its inputs."""
    return pytree.tree_map(lambda v: v.detach().clone() if isinstance(v, Tensor) else v, values)


def _difference(value: Any, wanted: Any) -> str | None:
    if not isinstance(wanted, Tensor) or not isinstance(value, Tensor):
        return None if type(value) is type(wanted) and value == wanted else f"{value!r} instead of {wanted!r}"
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        return f"{value.dtype}{list(value.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    a, b = value.detach().double().nan_to_num(), wanted.detach().double().nan_to_num()
    error = float((a - b).norm() / b.norm().clamp_min(1e-30))
    if torch.equal(value.isnan(), wanted.isnan()) and (error <= _TOLERANCE or torch.equal(a, b)):
        return None
    return f"relative error {error:.2g}"
