"""What every pass must keep, checked in one place: its promise, its input, its text form, and that it settles."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxc.catalogue import PASSES
from fxc.compiler.capture import capture
from fxc.compiler.instruments import Verify
from fxc.compiler.origin import label_of, origin_of
from fxc.compiler.passbase import Pass
from fxc.compiler.passtext import parse_pipeline
from fxc.compiler.pipeline import pipeline_text, run_pipeline
from fxc.compiler.program import Program, output_node
from fxc.compiler.text import structural_hash
from fxc.passes.canonicalize import Canonicalize


class Fn(nn.Module):
    """A function over tensors, with the given modules and parameters as its state."""

    def __init__(self, function: Callable[..., Any], **state: Any) -> None:
        super().__init__()
        self._function = function
        for name, value in state.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(self, *inputs)


def captured(model: nn.Module, *inputs: Tensor, dynamic: bool | None = None) -> Program:
    """The model as captured."""
    return capture(model.eval(), inputs, dynamic_batch=dynamic)


def canonical(model: nn.Module, *inputs: Tensor, dynamic: bool | None = None) -> Program:
    """The model in canonical form."""
    return run_pipeline(captured(model, *inputs, dynamic=dynamic), (Canonicalize(),))


def run(step: Pass, program: Program, *, changes: bool | None = True) -> Program:
    """Apply one pass and check all of its contract.

    Checked: the promise on the example inputs; the input program is untouched; ``modified`` tells the truth; a second run
    has nothing to do; the text form reads back; every node has a value and an origin.

    Args:
        changes: whether the pass must find something to do; ``None`` if either is right.
    """
    before, text = structural_hash(program), _meta(program)
    verify = Verify()
    after = run_pipeline(program, (step,), (verify,))
    assert structural_hash(program) == before, "the pass changed its input"
    assert _meta(program) == text, "the pass changed its input's names or fusion groups"
    modified = len(after.history) > len(program.history)
    assert changes is None or modified == changes, f"modified is {modified}"
    if not modified:
        assert after.graph_module is program.graph_module
    assert not step.apply(after).modified, "a second run found something to do"
    assert parse_pipeline(pipeline_text((step,)), PASSES) == (step,)
    for node in after.graph.nodes:
        assert node.op == "output" or "val" in node.meta, node
        assert node.op == "output" or origin_of(node).label, node
    return after


def _meta(program: Program) -> list[Any]:
    return [(n.name, label_of(n), n.meta.get("fusion")) for n in program.graph.nodes]


def operators(program: Program) -> list[str]:
    """Short operator names in graph order: ``"conv2d"``, ``"add"``."""
    calls = [
        n.target for n in program.graph.nodes if n.op == "call_function" and n.target is not operator.getitem
    ]
    return [getattr(getattr(t, "overloadpacket", t), "__name__", str(t)) for t in calls]


def assert_same(got: Program, want: Program, *, contents: bool = False) -> None:
    """Equal graphs from the outputs back: operators, literals, connections, shapes; names and order do not count."""
    pairs: dict[fx.Node, fx.Node] = {}

    def same(a: Any, b: Any) -> None:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node):
            if a not in pairs:
                pairs[a] = b
                same_node(a, b)
            assert pairs[a] is b, f"{a} stands for both {pairs[a]} and {b}"
        elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            assert len(a) == len(b), (a, b)
            for x, y in zip(a, b):
                same(x, y)
        else:
            assert type(a) is type(b), (a, b)
            assert a == b, (a, b)

    def same_node(a: fx.Node, b: fx.Node) -> None:
        assert a.op == b.op, (a.format_node(), b.format_node())
        if a.op == "call_function":
            assert a.target is b.target, (a.format_node(), b.format_node())
        if a.op == "get_attr":
            x, y = got.tensor(str(a.target)), want.tensor(str(b.target))
            assert (x.shape, x.dtype) == (y.shape, y.dtype), (a, b)
            assert not contents or torch.equal(x, y), (a, b)
        if a.op != "output":
            assert _shape_text(a) == _shape_text(b), (a, b)
        same(a.args, b.args)
        same(tuple(sorted(a.kwargs.items())), tuple(sorted(b.kwargs.items())))

    same_node(output_node(got.graph), output_node(want.graph))


def _shape_text(node: fx.Node) -> str:
    # A symbol is numbered after its input's name.
    return re.sub(r"\bs\d+\b", "s", str(tuple(node.meta["val"].shape)))


def declined(program: Program) -> list[str]:
    """The near misses in the program's notes."""
    return [note.text for note in program.notes if note.kind == "declined"]


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -1.0, 1.0),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 2.0),
                (module.bias, -1.0, 1.0),
            ):
                if tensor is not None:
                    with torch.no_grad():
                        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return model.eval()
