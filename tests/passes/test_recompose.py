"""Whole operators from their pieces, and the places where the pieces must stay."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.compiler.capture import capture
from fxc.compiler.pipeline import run_pipeline
from fxc.passes.pipelines import canonical as canonical_pipeline
from fxc.passes.recompose import Recompose
from tests.passes.checks import Fn, assert_same, canonical, captured, operators, run

X = torch.randn(2, 6, 4, 4)
M = torch.randn(3, 5)
W, B = torch.randn(5, 7), torch.randn(7)

SAME = {
    "mean with kept dims": (
        lambda m, x: x.mean((2, 3), keepdim=True),
        lambda m, x: F.adaptive_avg_pool2d(x, 1),
        X,
    ),
    "mean": (lambda m, x: x.mean((-1, -2)), lambda m, x: torch.squeeze(F.adaptive_avg_pool2d(x, 1), (2, 3)), X),
    "silu": (lambda m, x: torch.sigmoid(x) * x, lambda m, x: F.silu(x), X),
    "hardswish": (lambda m, x: x * F.hardsigmoid(x), lambda m, x: F.hardswish(x), X),
    "hardsigmoid by hand": (lambda m, x: F.relu6(x + 3) / 6, lambda m, x: F.hardsigmoid(x), X),
    "hardsigmoid by clamp": (lambda m, x: (x + 3).clamp(0, 6) * (1 / 6), lambda m, x: F.hardsigmoid(x), X),
    "hardswish by hand": (lambda m, x: x * F.relu6(x + 3) / 6, lambda m, x: F.hardswish(x), X),
    "hardswish in two steps": (lambda m, x: x * (F.relu6(x + 3) / 6), lambda m, x: F.hardswish(x), X),
    "scaled addition": (lambda m, x: torch.add(x, x.relu(), alpha=2), lambda m, x: x + x.relu() * 2, X),
    "layout copy": (
        lambda m, x: x.permute(0, 2, 3, 1).contiguous().relu(),
        lambda m, x: x.permute(0, 2, 3, 1).relu(),
        X,
    ),
    "reshape of a permuted reshape": (
        lambda m, x: x.permute(0, 2, 3, 1).reshape(-1, 16, 6).reshape(-1, 4, 24),
        lambda m, x: x.permute(0, 2, 3, 1).reshape(-1, 4, 24),
        X,
    ),
    "matmul, then bias": (lambda m, x: x @ m.w.T + m.b, lambda m, x: F.linear(x, m.w, m.b), M),
    "addmm": (lambda m, x: torch.addmm(m.b, x, m.w.t()), lambda m, x: F.linear(x, m.w, m.b), M),
    "matmul of rank 3": (
        lambda m, x: torch.matmul(x, m.w.T),
        lambda m, x: F.linear(x, m.w),
        torch.randn(2, 3, 5),
    ),
    "linear on flat rows": (
        lambda m, x: F.linear(x.reshape(-1, 5), m.w, m.b).reshape(-1, 3, 7),
        lambda m, x: F.linear(x, m.w, m.b),
        torch.randn(2, 3, 5),
    ),
}  # fmt: skip


def _net(function):
    return Fn(function, w=nn.Parameter(W.T.clone()), b=nn.Parameter(B.clone()))


@pytest.mark.parametrize("name", SAME)
def test_pieces_become_the_operator(name):
    before, expected, x = SAME[name]
    got = run(Recompose(), canonical(_net(before), x))
    assert_same(got, canonical(_net(expected), x))
    torch.testing.assert_close(got(x), _net(before)(x).detach(), rtol=1e-5, atol=1e-5)


def test_a_weight_that_is_not_transposed_is_turned_once():
    got = run(Recompose(), canonical(Fn(lambda m, x: x @ m.w + m.b, w=nn.Parameter(W), b=nn.Parameter(B)), M))
    assert operators(got) == ["permute", "linear"]
    torch.testing.assert_close(got(M), M @ W + B)


STAY = {
    "gate read twice": lambda m, x: (lambda s: x * s + s)(x.sigmoid()),
    "gate of another tensor": lambda m, x: x * x.relu().sigmoid(),
    "mean over channels": lambda m, x: x.mean((1, 2)),
    "mean in another dtype": lambda m, x: x.mean((2, 3), dtype=torch.float64),
    "another ramp": lambda m, x: F.hardtanh(x + 3, 0, 5) / 6,
    "another slope": lambda m, x: F.relu6(x + 3) / 5,
    "another offset": lambda m, x: x * F.relu6(x + 2) / 6,
    "matmul of two activations": lambda m, x: x @ x.mT,
}


@pytest.mark.parametrize("name", STAY)
def test_what_only_looks_like_it_stays(name):
    run(Recompose(), canonical(_net(STAY[name]), X), changes=False)


def test_a_bias_of_another_shape_stays_an_addition():
    model = Fn(
        lambda m, x: F.linear(x, m.w) + m.b, w=nn.Parameter(W.T.clone()), b=nn.Parameter(torch.randn(3, 7))
    )
    assert operators(run(Recompose(), canonical(model, M, dynamic=False), changes=False)) == ["linear", "add"]


def test_a_linear_that_is_also_an_output_keeps_its_bias_apart():
    model = Fn(
        lambda m, x: (lambda y: (y, y + m.b))(F.linear(x, m.w)),
        w=nn.Parameter(W.T.clone()),
        b=nn.Parameter(B),
    )
    assert operators(run(Recompose(), canonical(model, M), changes=False)) == ["linear", "add"]


EINSUMS = {
    "attention scores": ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    "attention values": ("bhij,bhjd->bhid", (2, 3, 4, 6), (2, 3, 6, 5)),
    "maxvit": ("B G H I D, B G H J D -> B G H I J", (2, 2, 3, 4, 5), (2, 2, 3, 6, 5)),
    "heads in the middle": ("bihd,bjhd->bhij", (2, 4, 3, 5), (2, 6, 3, 5)),
    "turned result": ("bhid,bhjd->bhji", (2, 3, 4, 5), (2, 3, 6, 5)),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_einsum_becomes_matmul(name):
    equation, a, b = EINSUMS[name]
    model = Fn(lambda m, x, y: torch.einsum(equation, x, y))
    x, y = torch.randn(a), torch.randn(b)
    got = run(Recompose(), canonical(model, x, y))
    assert "einsum" not in operators(got)
    assert operators(got).count("matmul") == 1
    torch.testing.assert_close(got(x, y), torch.einsum(equation, x, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("index", [0, 2, -1])
def test_a_piece_of_a_split_axis_is_a_slice(index):
    model = Fn(lambda m, x: x.reshape(x.shape[0], 3, 2, 4, 4)[:, index])
    got = run(Recompose(), canonical(model, X))
    assert operators(got) == ["slice"]
    assert torch.equal(got(X), model(X))


@pytest.mark.parametrize("equation", ["bii->bi", "bij,bij->b", "bij->bji"])
def test_other_einsums_stay(equation):
    count = equation.split("->")[0].count(",") + 1
    model = Fn(lambda m, *xs: torch.einsum(equation, *xs))
    inputs = tuple(torch.randn(2, 4, 4) for _ in range(count))
    program = captured(model, *inputs)
    got = run_pipeline(program, canonical_pipeline())
    torch.testing.assert_close(got(*inputs), torch.einsum(equation, *inputs), rtol=1e-5, atol=1e-5)


def test_packed_attention_becomes_slices():
    """nn.MultiheadAttention packs q, k, v through unflatten, unsqueeze, transpose, squeeze, contiguous and select."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = Fn(lambda m, x: m.attention(x, x, x, need_weights=False)[0], attention=attention).eval()
    x = torch.randn(2, 5, 8)
    got = run_pipeline(captured(model, x), canonical_pipeline())
    assert not {"unsqueeze", "squeeze", "select", "contiguous", "clone"} & set(operators(got)), operators(got)
    assert operators(got).count("slice") == 3
    fresh = torch.randn(3, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(got(fresh), model(fresh), rtol=1e-5, atol=1e-5)


def test_a_fully_decomposed_transformer_layer_gets_its_linears_back():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu").eval()
    x = torch.randn(2, 5, 8)
    pieces = torch.export.export(layer, (x,)).run_decompositions()
    got = run_pipeline(capture(pieces), canonical_pipeline())
    names = operators(got)
    assert names.count("linear") == 4, names
    assert names.count("layer_norm") == 2
    assert math.isfinite(float(got(x).sum()))
    torch.testing.assert_close(got(x), layer(x).detach(), rtol=1e-4, atol=1e-5)
