"""Every substitution against PyTorch's own operator, and the cases that it must leave alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.compiler.errors import UsageError
from fxc.passes.substitute import RULES, Substitute
from tests.passes.checks import Fn, canonical, operators, run

X = torch.randn(2, 8, 6, 6)
P = torch.randn(2, 3, 16, 24)
Q = torch.randn(2, 3, 5, 4)
K = torch.randn(2, 3, 7, 4)
LOWER = torch.ones(5, 7, dtype=torch.bool).tril()
EMPTY = LOWER.clone()
EMPTY[2] = False


def _head(x, y):
    """Two levels, each boxes beside scores, flattened, joined, and taken apart again."""
    levels = [torch.cat([x, y], 1), torch.cat([x[..., :3], y[..., :3]], 1)]
    flat = torch.cat([level.flatten(2) for level in levels], 2)
    box, score = flat.split((8, 8), 1)
    return box.sin(), score.sigmoid()


CASES = {
    "silu": (["silu"], lambda m, x: F.silu(x), (X,)),
    "hardswish": (["hardswish"], lambda m, x: F.hardswish(3 * x), (X,)),
    "hardswish all the way": (["hardswish", "hardsigmoid"], lambda m, x: F.hardswish(3 * x), (X,)),
    "hardsigmoid": (["hardsigmoid"], lambda m, x: F.hardsigmoid(3 * x), (X,)),
    "relu6": (["hardtanh"], lambda m, x: F.relu6(9 * x), (X,)),
    "gelu": (["gelu"], lambda m, x: F.gelu(x), (X,)),
    "gelu_tanh": (["gelu_tanh"], lambda m, x: F.gelu(x, approximate="tanh"), (X,)),
    "mish": (["mish"], lambda m, x: F.mish(x), (X,)),
    "leaky_relu": (["leaky_relu"], lambda m, x: F.leaky_relu(x, 0.1), (X,)),
    "prelu": (["prelu"], lambda m, x: F.prelu(x, m.slope), (X,)),
    "square": (["square"], lambda m, x: x.pow(2) + x.abs().pow(0.5), (X,)),
    "divide": (["divide"], lambda m, x: x / 7, (X,)),
    "masked_fill": (["masked_fill"], lambda m, x: x.masked_fill(x > 0, -1.5), (X,)),
    "layer_norm": (["layer_norm"], lambda m, x: F.layer_norm(x, (6, 6), m.image, m.image + 1), (X,)),
    "layer_norm plain": (["layer_norm"], lambda m, x: F.layer_norm(x, (6,)), (X,)),
    "group_norm": (["group_norm"], lambda m, x: F.group_norm(x, 4, m.slope, m.slope + 1), (X,)),
    "group_norm all the way": (["group_norm", "layer_norm"], lambda m, x: F.group_norm(x, 2, m.slope), (X,)),
    "instance_norm": (["instance_norm"], lambda m, x: F.instance_norm(x, weight=m.slope), (X,)),
    "vector_norm": (["vector_norm"], lambda m, x: torch.linalg.vector_norm(x, dim=-1, keepdim=True), (X,)),
    "global_pool": (["global_pool"], lambda m, x: F.adaptive_avg_pool2d(x, 1), (X,)),
    "adaptive_pool": (["adaptive_pool"], lambda m, x: F.adaptive_avg_pool2d(x, (3, 2)), (X,)),
    "sdpa": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k), (Q, K)),
    "sdpa scaled": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, scale=0.3), (Q, K)),
    "sdpa causal": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True), (Q, K)),
    "sdpa boolean mask": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, m.lower), (Q, K)),
    "sdpa float mask": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, m.added), (Q, K)),
    "sdpa mask of an input": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, k.mT[:, :, :1] > -9), (Q, K)),
    "sdpa mask with an empty row": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, m.empty), (Q, K)),
    "sdpa mask of an input with empty rows": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k, k, q[..., :1] > 0), (Q, K)),
    "last_axis_softmax": (["last_axis_softmax"], lambda m, x: x.softmax(1) + x.log_softmax(-2), (X,)),
    "pixel_shuffle": (["pixel_shuffle"], lambda m, x: F.pixel_shuffle(x, 2), (X,)),
    "pixel_unshuffle": (["pixel_unshuffle"], lambda m, x: F.pixel_unshuffle(x, 3), (X,)),
    "channel_shuffle": (["channel_shuffle"], lambda m, x: torch.channel_shuffle(x, 4), (X,)),
    "roll": (["roll"], lambda m, x: torch.roll(x, (2, -1), (2, 3)), (X,)),
    "roll by nothing": (["roll"], lambda m, x: torch.roll(x, (6, 7), (2, 3)), (X,)),
    "conv1d": (["conv1d"], lambda m, x: m.conv1d(x[:, :, 0]), (X,)),
    "linear": (["linear"], lambda m, x: m.linear(x.flatten(1)), (X,)),
    "patch_conv": (["patch_conv"], lambda m, x: F.conv2d(x, m.patch, m.slope, stride=8), (P,)),
    "dense_conv_transpose": (["dense_conv_transpose"], lambda m, x: F.conv_transpose2d(x, m.grouped, m.slope[:6], stride=2, groups=2), (X,)),
    "slice_of_cat": (["slice_of_cat"], lambda m, x: torch.cat([x, x.relu()], 1)[:, 8:], (X,)),
    "slice_of_cat across": (["slice_of_cat"], lambda m, x: torch.cat([x.flatten(2), x.relu().flatten(2)], 2)[:, 2:5], (X,)),
    "slice_of_cat of a detector": (["slice_of_cat"], lambda m, x: _head(x, x.relu()), (X,)),
    "upsample_nearest": (["upsample_nearest"], lambda m, x: F.interpolate(x, scale_factor=3), (X,)),
    "upsample_nearest to a size": (["upsample_nearest"], lambda m, x: F.interpolate(x, size=(12, 18)), (X,)),
}  # fmt: skip


def _model(function):
    torch.manual_seed(0)
    return Fn(
        function, slope=nn.Parameter(torch.rand(8)), image=nn.Parameter(torch.rand(6, 6)), lower=LOWER,
        empty=EMPTY, added=torch.randn(5, 7), conv1d=nn.Conv1d(8, 4, 3, stride=2, padding=1, groups=2), linear=nn.Linear(288, 5),
        patch=torch.randn(8, 3, 8, 8) / 14, grouped=torch.randn(8, 3, 2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_identity_holds(name):
    rules, function, inputs = CASES[name]
    model = _model(function)
    program = canonical(model, *inputs)
    got = run(Substitute(rules=tuple(rules)), program)
    fresh = tuple(torch.randn(3, *x.shape[1:]) for x in inputs) if program.dynamic else inputs
    with torch.no_grad():
        torch.testing.assert_close(got(*fresh), model(*fresh), rtol=1e-4, atol=1e-5)


def test_every_rule_has_a_case():
    assert {rule for rules, _, _ in CASES.values() for rule in rules} == set(RULES)


LEFT_ALONE = {
    "erf gelu by the tanh rule": (["gelu_tanh"], lambda m, x: F.gelu(x), (X,)),
    "a steep leaky_relu": (["leaky_relu"], lambda m, x: F.leaky_relu(x, 1.5), (X,)),
    "an exponent of three": (["square"], lambda m, x: x.pow(3), (X,)),
    "a softmax over the last axis": (["last_axis_softmax"], lambda m, x: x.softmax(-1), (X,)),
    "pooling to sizes that do not divide": (["adaptive_pool"], lambda m, x: F.adaptive_avg_pool2d(x, 4), (X,)),
    "pooling to more than one pixel": (["global_pool"], lambda m, x: F.adaptive_avg_pool2d(x, 2), (X,)),
    "another order of norm": (["vector_norm"], lambda m, x: torch.linalg.vector_norm(x, ord=1, dim=1), (X,)),
    "upsampling by a fraction": (["upsample_nearest"], lambda m, x: F.interpolate(x, size=(9, 9)), (X,)),
    "linear on more than rows": (["linear"], lambda m, x: F.linear(x, m.image), (X,)),
    "a concat that is read whole": (["slice_of_cat"], lambda m, x: (lambda y: y[:, 8:] + y.sum())(torch.cat([x, x.relu()], 1)), (X,)),
    "a slice across two pieces": (["slice_of_cat"], lambda m, x: torch.cat([x, x.relu()], 1)[:, 4:12], (X,)),
    "a reshape that mixes the sliced dimension": (["slice_of_cat"], lambda m, x: torch.cat([x, x.relu()], 1).reshape(x.shape[0], 4, -1)[:, 1:3], (X,)),
    "patches that overlap": (["patch_conv"], lambda m, x: F.conv2d(x, torch.ones(2, 3, 8, 8), stride=7), (P[..., :15, :22],)),
    "patches with a rest": (["patch_conv"], lambda m, x: F.conv2d(x, torch.ones(2, 3, 8, 8), stride=8), (P[..., :15, :22],)),
    "small patches": (["patch_conv"], lambda m, x: F.conv2d(x, torch.ones(2, 3, 4, 4), stride=4), (P,)),
    "a transposed convolution without groups": (["dense_conv_transpose"], lambda m, x: F.conv_transpose2d(x, torch.ones(8, 3, 2, 2)), (X,)),
    "attention whose heads share keys": (["sdpa"], lambda m, q, k: F.scaled_dot_product_attention(q, k[:, :1], k[:, :1], enable_gqa=True), (Q, K)),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_the_identity_does_not_cover_stays(name):
    rules, function, inputs = LEFT_ALONE[name]
    model = Fn(function, image=nn.Parameter(torch.rand(6, 6)))
    run(Substitute(rules=tuple(rules)), canonical(model, *inputs), changes=False)


def test_a_detectors_head_loses_the_concats_of_boxes_with_scores():
    got = run(Substitute(rules=("slice_of_cat",)), canonical(Fn(lambda m, x: _head(x, x.relu())), X))
    assert operators(got).count("cat") == 2
    assert got.graph.find_nodes(op="call_function", target=torch.ops.aten.slice.Tensor).__len__() <= 2


def test_only_the_chosen_rules_run():
    model = nn.Sequential(nn.SiLU(), nn.Hardswish(), nn.GELU())
    got = run(Substitute(rules=("hardswish",)), canonical(model, X))
    assert operators(got) == ["silu", "hardsigmoid", "mul", "gelu"]
    run(Substitute(), canonical(model, X), changes=False)


def test_unknown_rules_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="hardswich") as raised:
        Substitute(rules=("hardswich",))
    assert "hardswish" in str(raised.value)
