"""The captured graph against the model itself, on the example inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from fxc.compiler.capture.explain import explain_call
from fxc.compiler.capture.export import describe, inference
from fxc.compiler.capture.inputs import Example
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
            with torch.no_grad():
                got = pytree.tree_leaves(program.unflatten(_Shapes(program.graph_module).run(*flat)))
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


class _Shapes(fx.Interpreter):
    """Runs a graph and holds every value against the shape in ``meta["val"]``, which lowerings go by."""

    def __init__(self, module: fx.GraphModule):
        super().__init__(module)
        self.sizes: dict[Any, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The node's value.

        Raises:
            _OtherShape: it has another shape than was traced.
        """
        result = super().run_node(n)
        traced = n.meta.get("val")
        if n.op != "output" and isinstance(result, Tensor) and isinstance(traced, Tensor):
            if n.op == "placeholder":
                self._bind(traced, result)
            wanted = [self._size(size) for size in traced.shape]
            if list(result.shape) != wanted:
                raise _OtherShape(f"{where(n)} gives {list(result.shape)}, traced as {wanted}")
        return result

    def _bind(self, traced: Tensor, result: Tensor) -> None:
        for size, given in zip(traced.shape, result.shape):
            if not isinstance(size, int) and size.node.expr.is_symbol:
                self.sizes[size.node.expr] = given

    def _size(self, size: Any) -> int:
        return size if isinstance(size, int) else int(size.node.expr.subs(self.sizes))


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
