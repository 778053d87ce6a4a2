"""Capture: the graph's form, its names, and its numbers against eager PyTorch."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from fxc.compiler.capture import capture
from fxc.compiler.origin import label_of, op_name, origin_of
from fxc.compiler.program import Program
from fxc.compiler.serialize import load_program, save_program
from fxc.compiler.text import program_text
from tests.models.small import SMALL, build_small, small_inputs


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn(self.conv(x)))
        y = self.bn(self.conv(y))
        y += x
        return self.relu(y)


class Attention(nn.Module):
    """Weights of sub-modules that are never called themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.gelu(F.linear(x, self.qkv.weight, self.qkv.bias)), self.proj.weight, self.proj.bias)


class Pair(NamedTuple):
    first: Tensor
    second: Any


class Everything(nn.Module):
    """Nested results: an input, a constant, numbers, None."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.offsets = torch.arange(3.0)

    def forward(
        self, x: Tensor, scale: int = 2, *, mask: Tensor | None = None, mode: str = "a"
    ) -> dict[str, Any]:
        y = self.linear(x) * scale + self.offsets
        if mask is not None:
            y = y * mask
        return {"y": y, "pair": Pair(x, [None, 7]), "offsets": self.offsets, "mode": mode}


def assert_canonical(program: Program) -> None:
    """The invariants that every pass may rely on, stated from the graph alone."""
    program.graph.lint()
    names = [label_of(node) for node in program.graph.nodes if node.op != "output"]
    assert len(names) == len(set(names))
    mode = program.fake_mode
    for node in program.graph.nodes:
        assert node.op in ("placeholder", "get_attr", "call_function", "output")
        if node.op == "output":
            assert all(isinstance(n, fx.Node) for n in node.args[0])
            continue
        values = node.meta["val"] if isinstance(node.meta["val"], (list, tuple)) else [node.meta["val"]]
        assert all(v.fake_mode is mode for v in values if isinstance(v, FakeTensor))
        if isinstance(node.target, OpOverload):
            assert not node.target._schema.is_mutable, node
            by_place = [a for a in node.target._schema.arguments if not a.kwarg_only]
            assert len(node.args) == len(by_place)
            assert set(node.kwargs) <= {a.name for a in node.target._schema.arguments if a.kwarg_only}


def assert_equal(program: Program, model: nn.Module, *args: Any, **kwargs: Any) -> None:
    with torch.no_grad():
        expected = model(*args, **kwargs)
    got = program(*args, **kwargs)
    assert pytree.tree_structure(got) == pytree.tree_structure(expected)
    for a, b in zip(pytree.tree_leaves(got), pytree.tree_leaves(expected)):
        if isinstance(b, Tensor):
            torch.testing.assert_close(a, b)
        else:
            assert a == b


@pytest.mark.parametrize("name", SMALL)
def test_small_nets_equal_eager_at_other_batch_sizes(name: str) -> None:
    model, inputs = build_small(name)
    program = capture(model, tuple(x[:1] for x in inputs))
    assert_canonical(program)
    assert program.dynamic
    assert [x.shape[0] for x in program.example_inputs] == [1] * len(inputs)
    for batch in (1, 3, 4):
        assert_equal(program, model, *small_inputs(name, batch, seed=7))


def test_labels_are_the_models_names() -> None:
    program = capture(nn.Sequential(Block()).eval(), torch.randn(1, 4, 5, 5))
    calls = [(label_of(n), op_name(n)) for n in program.graph.nodes if n.op == "call_function"]
    assert calls == [
        ("0.conv", "conv2d"),
        ("0.bn", "batch_norm"),
        ("0.relu", "relu"),
        ("0.conv_1", "conv2d"),
        ("0.bn_1", "batch_norm"),
        ("0.add", "add"),
        ("0.relu_1", "relu"),
    ]
    add = next(n for n in program.graph.nodes if op_name(n) == "add")
    assert origin_of(add).source == f"test_capture.py:{Block.forward.__code__.co_firstlineno + 3}  y += x"
    assert add.name == "_0_add"
    assert {label_of(n) for n in program.graph.nodes if n.op == "get_attr"} >= {
        "0.conv.weight",
        "0.bn.running_var",
    }


def test_a_weight_used_by_hand_names_its_operator() -> None:
    program = capture(Attention(), torch.randn(1, 6))
    assert [label_of(n) for n in program.graph.nodes if n.op == "call_function"] == ["qkv", "gelu", "proj"]


def test_nested_arguments_and_results() -> None:
    model, x, mask = Everything().eval(), torch.randn(1, 3), torch.ones(1, 3)
    program = capture(model, (x, 3), {"mask": mask, "mode": "b"})
    assert_canonical(program)
    assert [str(s) for s in program.inputs if not s.is_constant] == [
        "x: float32[batch, 3]",
        "mask: float32[batch, 3]",
    ]
    assert {s.name: s.value for s in program.inputs if s.is_constant} == {"scale": 3, "mode": "b"}
    assert [s.name for s in program.outputs] == ["y", "pair_first", "offsets"]
    assert program.outputs[0].shape == ("batch", 3)
    assert_equal(program, model, torch.randn(5, 3), 3, mask=torch.rand(5, 3), mode="b")
    assert isinstance(program(x, 3, mask=mask, mode="b")["pair"], Pair)


def test_names_of_arguments_and_results_do_not_collide(tmp_path: Path) -> None:
    """``input`` is no name for a node, and ``x`` names both an argument and a result; constants survive a file."""

    class Names(nn.Module):
        def forward(self, x: Tensor, input: Tensor) -> dict[str, Any]:
            return {"x": x * 2, "nothing": None, "sum": input + x, "label": "cat", "count": 3}

    program = capture(Names(), (torch.ones(1, 2), torch.ones(1, 2)))
    assert [s.name for s in program.inputs] == ["x", "input"]
    assert [s.name for s in program.outputs] == ["x_1", "sum"]
    save_program(program, tmp_path / "saved")
    for each in (program, load_program(tmp_path / "saved")):
        assert_equal(each, Names(), torch.rand(3, 2), torch.rand(3, 2))


def test_integer_and_absent_inputs() -> None:
    class Embed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids: Tensor, mask: Tensor | None, scale: float) -> Tensor:
            return self.table(ids).sum(1) * scale

    model = Embed()
    program = capture(model, (torch.tensor([[1, 2, 3]]), None, 0.5))
    assert program.inputs[0].dtype == "int64"
    assert_equal(program, model, torch.tensor([[9, 0, 3], [4, 4, 4]]), None, 0.5)


def test_shared_weights_keep_one_name_and_one_tensor() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    model = Tied()
    program = capture(model, torch.randn(1, 4))
    assert dict(program.module().named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert program.tensor("a.weight") is model.a.weight
    assert_equal(program, model, torch.randn(2, 4))


def test_the_users_module_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    program = capture(model, torch.randn(1, 3, 8, 8))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert_equal(program, model.eval(), torch.randn(2, 3, 8, 8))


def test_two_captures_are_the_same_text() -> None:
    model, inputs = build_small("residual")
    assert program_text(capture(model, inputs)) == program_text(capture(model, inputs))


def test_a_long_chain_grows_in_proportion() -> None:
    """Every node is made and named once: 300 layers give 300 nodes with 300 different names."""
    model = nn.Sequential(*(m for _ in range(150) for m in (nn.Linear(4, 4), nn.ReLU(inplace=True))))
    program = capture(model, torch.randn(1, 4))
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    assert [label_of(n) for n in calls] == [str(i) for i in range(300)]


def test_no_grad_regions_are_in_line() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.stem(x).relu_()
            with torch.autocast("cpu", enabled=False):
                return self.head(x)

    model = Frozen()
    program = capture(model, torch.randn(1, 4))
    assert_canonical(program)
    assert [label_of(n) for n in program.graph.nodes if n.op == "call_function"] == ["stem", "relu", "head"]
    assert_equal(program, model, torch.randn(3, 4))


@pytest.mark.parametrize(
    "layer",
    [
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.BatchNorm1d(5, track_running_stats=False),
        nn.InstanceNorm1d(5, affine=True, track_running_stats=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_more_than_one_path(layer: nn.Module) -> None:
    program = capture(layer.eval(), torch.randn(2, 5, 8))
    assert_canonical(program)
    assert_equal(program, layer, torch.randn(3, 5, 8))
