"""Groups of a layer and its activation, written beside the operators."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.compiler.errors import UsageError
from fxc.compiler.origin import label_of
from fxc.compiler.text import structural_hash
from fxc.passes.fuse_activation import FuseActivation, fusion_groups
from tests.passes.checks import Fn, canonical, run

X = torch.randn(2, 4, 5, 5)


def _groups(program):
    return sorted(tuple(label_of(n) for n in nodes) for nodes in fusion_groups(program).values())


def _conv():
    return nn.Conv2d(4, 4, 3, padding=1)


def test_operators_stay_and_groups_are_written():
    program = canonical(nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU6(), _conv(), nn.SiLU()), X)
    got = run(FuseActivation(), program)
    assert structural_hash(got) == structural_hash(program)
    assert _groups(got) == [("0", "1"), ("2", "3")]
    assert _groups(program) == []


def test_the_target_says_which_activations_count():
    program = canonical(nn.Sequential(_conv(), nn.SiLU(), nn.Flatten(), nn.Linear(100, 3), nn.GELU()), X)
    assert _groups(run(FuseActivation(activations=("silu",)), program)) == [("0", "1")]
    assert _groups(run(FuseActivation(activations=("silu", "gelu"), anchors=("linear",)), program)) == [
        ("3", "4")
    ]


def test_an_activation_with_another_producer_or_a_second_reader_is_not_grouped():
    model = Fn(lambda m, x: (lambda y: y.relu() + y)(m.conv(x)) + x.relu(), conv=_conv())
    run(FuseActivation(anchors=("conv",)), canonical(model, X), changes=False)


def test_a_layer_that_is_an_output_is_not_grouped():
    model = Fn(lambda m, x: (lambda y: (y, y.relu()))(m.conv(x)), conv=_conv())
    run(FuseActivation(), canonical(model, X), changes=False)


def test_a_residual_addition_belongs_to_the_later_convolution():
    model = Fn(lambda m, x: F.relu(m.b(F.relu(m.a(x))) + m.skip(x)), a=_conv(), b=_conv(), skip=_conv())
    program = canonical(model, X)
    assert _groups(run(FuseActivation(), program)) == [("a", "relu"), ("add", "relu_1")]
    assert _groups(run(FuseActivation(residual=True), program)) == [("a", "relu"), ("skip", "add", "relu_1")]


def test_a_second_run_with_other_options_replaces_the_groups():
    program = run(FuseActivation(), canonical(nn.Sequential(_conv(), nn.ReLU()), X))
    assert _groups(run(FuseActivation(activations=("gelu",)), program)) == []


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="rellu"):
        FuseActivation(activations=("rellu",))
    with pytest.raises(UsageError, match="pool"):
        FuseActivation(anchors=("pool",))
