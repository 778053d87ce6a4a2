"""Constant folding, common subexpressions, dead code and dropout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.compiler.editor import Editor
from fxc.compiler.origin import label_of
from fxc.compiler.program import attributes_used
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL
from fxc.passes.constant_folding import ConstantFolding
from fxc.passes.cse import CommonSubexpressions
from fxc.passes.dead_code import DeadCode
from fxc.passes.remove_dropout import RemoveDropout
from tests.passes.checks import Fn, assert_same, canonical, declined, operators, run

aten = torch.ops.aten
X = torch.randn(2, 4, 3, 3)


def _parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def test_a_chain_over_parameters_becomes_one_tensor():
    model = Fn(lambda m, x: x + (m.a * m.b).exp().reshape(1, 4, 1, 1), a=_parameter(4), b=_parameter(4))
    got = run(ConstantFolding(), canonical(model, X))
    assert operators(got) == ["add"]
    (target,) = attributes_used(got.graph_module)
    assert target.startswith("_fxc.")
    assert torch.equal(got.tensor(target), (model.a * model.b).exp().reshape(1, 4, 1, 1).detach())
    assert got.tensor(target).untyped_storage().nbytes() == 16


def test_tensors_made_from_nothing_are_folded():
    got = run(
        ConstantFolding(),
        canonical(Fn(lambda m, x: x * torch.arange(3, dtype=torch.float32)), X),
        changes=None,
    )
    assert operators(got) == ["mul"]


def test_a_constant_that_is_an_output_is_folded_too():
    model = Fn(lambda m, x: (x.relu(), m.a.exp()), a=_parameter(4))
    got = run(ConstantFolding(), canonical(model, X), changes=None)
    assert operators(got) == ["relu"]
    assert torch.equal(got.run_flat(X)[1], model.a.detach().exp())


def test_what_would_grow_beyond_the_limit_stays():
    program = canonical(Fn(lambda m, x: x + m.a.expand(4, 3, 3), a=_parameter(4, 1, 1)), X)
    got = run(ConstantFolding(limit=8), program, changes=False)
    assert "expand" in operators(got)
    assert "expand" not in operators(run(ConstantFolding(limit=36), program))


def test_a_result_as_large_as_its_input_is_folded_under_any_limit():
    program = canonical(Fn(lambda m, x: F.linear(x, m.w.exp()), w=_parameter(5, 3)), X)
    assert operators(run(ConstantFolding(limit=0), program)) == ["linear"]


def test_a_symbolic_size_stays():
    got = run(
        ConstantFolding(),
        canonical(Fn(lambda m, x: m.a.expand(x.shape[0], 4), a=_parameter(1, 4)), X),
        changes=False,
    )
    assert "expand" in operators(got)


def test_a_quantized_weight_keeps_its_dequantize():
    program = canonical(nn.Sequential(nn.Linear(3, 5)), X)
    editor = Editor(program, "test")
    linear = next(n for n in editor.graph.nodes if n.target is aten.linear.default)
    with editor.before(linear):
        codes = editor.constant(torch.randint(-9, 9, (5, 3), dtype=torch.int8), "codes", origins=(linear,))
        scale = editor.constant(torch.rand(5), "scale", origins=(linear,))
        zero = editor.constant(torch.zeros(5, dtype=torch.int32), "zero", origins=(linear,))
        weight = editor.call(DEQUANTIZE_CHANNEL, (codes, scale, zero, 0), origins=(linear,))
    linear.update_arg(1, weight)
    run(ConstantFolding(), editor.finish(), changes=False)


def test_a_random_operator_is_not_computed_ahead():
    editor = Editor(canonical(Fn(lambda m, x: x + m.a, a=_parameter(3)), X), "test")
    add = next(n for n in editor.graph.nodes if n.target is aten.add.Tensor)
    with editor.before(add):
        noise = editor.call(aten.rand_like.default, (add.args[1],), origins=(add,))
    add.update_arg(1, noise)
    assert not ConstantFolding().apply(editor.finish()).modified


def test_equal_expressions_are_computed_once():
    before = Fn(lambda m, x: torch.sigmoid(x + 1) * x.relu() + torch.sigmoid(x + 1))
    expected = Fn(lambda m, x: (lambda s: s * x.relu() + s)(torch.sigmoid(x + 1)))
    assert_same(run(CommonSubexpressions(), canonical(before, X)), canonical(expected, X))


def test_reads_of_one_tensor_are_merged_and_of_equal_tensors_are_not():
    model = Fn(
        lambda m, x: (x + m.a) * (x + m.b), a=nn.Parameter(torch.ones(3)), b=nn.Parameter(torch.ones(3))
    )
    run(CommonSubexpressions(), canonical(model, X), changes=False)
    model.b = model.a
    got = run(CommonSubexpressions(), canonical(model, X))
    assert operators(got) == ["add", "mul"]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x.sum(2) + x.sum(3),
        lambda m, x: F.leaky_relu(x, 0.1) + F.leaky_relu(x, 0.2),
        lambda m, x: x.softmax(1) + x.softmax(2),
        lambda m, x: (x - x.relu()) + (x.relu() - x),
    ],
    ids=["dims", "slopes", "axes", "order"],
)
def test_expressions_that_differ_in_a_literal_or_in_order_stay_apart(function):
    program = run(CommonSubexpressions(), canonical(Fn(function), X), changes=None)
    torch.testing.assert_close(program(X), function(None, X), rtol=0, atol=0)


def test_one_and_one_point_zero_are_different_literals():
    x = torch.arange(6).reshape(2, 3)
    program = canonical(Fn(lambda m, x: (x * 2, x * 2.0)), x)
    got = run(CommonSubexpressions(), program, changes=False)
    assert [t.dtype for t in got.run_flat(x)] == [torch.int64, torch.float32]


def test_random_operators_and_training_norms_are_not_merged():
    editor = Editor(canonical(Fn(lambda m, x: x.relu() + x.relu()), X), "test")
    for node in list(editor.graph.nodes):
        if node.target is aten.relu.default:
            editor.retarget(node, aten.rand_like.default, node.args)
    assert not CommonSubexpressions().apply(editor.finish()).modified


def test_dead_operators_go_and_inputs_stay():
    editor = Editor(canonical(Fn(lambda m, x, y: x.relu() + m.a, a=_parameter(3)), X, X), "test")
    relu = next(n for n in editor.graph.nodes if n.target is aten.relu.default)
    with editor.after(relu):
        dead = editor.call(aten.exp.default, (relu,), origins=(relu,))
    with editor.after(dead):
        editor.call(aten.neg.default, (dead,), origins=(relu,))
    program = editor.finish()
    got = run(DeadCode(), program)
    assert operators(got) == ["relu", "add"]
    assert len(got.tensor_inputs) == 2
    assert got(X, X).shape == X.shape


def test_nothing_dead_changes_nothing():
    run(DeadCode(), canonical(nn.Sequential(nn.ReLU()), X), changes=False)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.Dropout(0.0)])
def test_an_evaluated_dropout_goes(layer):
    got = run(RemoveDropout(), canonical(nn.Sequential(nn.ReLU(), layer, nn.Sigmoid()), X))
    assert_same(got, canonical(nn.Sequential(nn.ReLU(), nn.Sigmoid()), X))


def test_a_dropout_that_is_the_output_goes():
    got = run(RemoveDropout(), canonical(nn.Sequential(nn.ReLU(), nn.Dropout()), X))
    assert operators(got) == ["relu"]


def test_a_training_dropout_stays_and_says_why():
    editor = Editor(canonical(nn.Sequential(nn.Dropout(0.5), nn.ReLU()), X), "test")
    dropout = next(n for n in editor.graph.nodes if n.target is aten.dropout.default)
    dropout.update_arg(2, True)
    got = RemoveDropout().apply(editor.finish())
    assert not got.modified
    assert "training mode" in got.notes[0].text
    assert got.notes[0].layer == label_of(dropout)


def test_without_training_nothing_is_declined():
    assert declined(run(RemoveDropout(), canonical(nn.Sequential(nn.Dropout(), nn.ReLU()), X))) == []
