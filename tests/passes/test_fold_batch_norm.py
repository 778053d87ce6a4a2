"""Batch-norm folding against PyTorch's own ``fuse_conv_bn_eval`` and ``fuse_linear_bn_eval``."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from fxc.compiler.editor import Editor
from fxc.compiler.origin import labels, origin_of
from fxc.passes.fold_batch_norm import FoldBatchNorm
from tests.passes.checks import Fn, assert_same, canonical, declined, operators, randomized, run

X1, X2, X3 = torch.randn(2, 4, 9), torch.randn(2, 4, 6, 7), torch.randn(2, 4, 5, 4, 6)

AFTER_LAYER = {
    "conv1d": (nn.Conv1d(4, 6, 3, padding=1), nn.BatchNorm1d(6), X1),
    "conv1d without bias": (nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6), X1),
    "conv2d": (nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), X2),
    "conv2d in groups": (nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8), X2),
    "conv2d depthwise": (nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4), X2),
    "conv2d, norm without affine": (nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False), X2),
    "conv3d": (nn.Conv3d(4, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), X3),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), X1),
    "transposed 2d in groups": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False),
        nn.BatchNorm2d(6),
        X2,
    ),
    "transposed 2d in four groups": (nn.ConvTranspose2d(4, 12, 2, groups=4), nn.BatchNorm2d(12), X2),
    "transposed 3d": (nn.ConvTranspose3d(4, 6, 3, groups=2), nn.BatchNorm3d(6), X3),
    "linear": (nn.Linear(5, 7), nn.BatchNorm1d(7), torch.randn(3, 5)),
    "linear without bias": (nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), torch.randn(3, 5)),
    "float64": (nn.Conv2d(4, 6, 3).double(), nn.BatchNorm2d(6).double(), X2.double()),
}


@pytest.mark.parametrize("name", AFTER_LAYER)
def test_a_norm_behind_a_layer_folds_into_it(name):
    layer, norm, x = AFTER_LAYER[name]
    before = randomized(nn.Sequential(copy.deepcopy(layer), copy.deepcopy(norm)))
    got = run(FoldBatchNorm(), canonical(before, x))

    transposed = "transposed" in name
    assert len(operators(got)) == 1
    # PyTorch's helper does not take transposed convolutions in groups.
    if not transposed or layer.groups == 1:
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        fused = fuse(before[0], before[1], True) if transposed else fuse(before[0], before[1])
        want = canonical(nn.Sequential(fused), x)
        assert_same(got, want)
        torch.testing.assert_close(got.tensor("0.weight"), fused.weight, rtol=1e-5, atol=1e-6)
    fresh = torch.randn_like(x)
    with torch.no_grad():
        torch.testing.assert_close(got(fresh), before(fresh), rtol=1e-4, atol=1e-4)


BEFORE_LAYER = {
    "linear": (nn.BatchNorm1d(5), nn.Linear(5, 7), torch.randn(3, 5)),
    "linear without bias": (nn.BatchNorm1d(5), nn.Linear(5, 7, bias=False), torch.randn(3, 5)),
    "conv2d": (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, bias=False), X2),
    "conv2d in groups": (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2), X2),
    "conv1d depthwise": (nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3, groups=4), X1),
    "conv3d strided": (nn.BatchNorm3d(4), nn.Conv3d(4, 6, 2, stride=2), X3),
}


@pytest.mark.parametrize("name", BEFORE_LAYER)
def test_a_norm_before_a_layer_folds_where_it_is_exact(name):
    norm, layer, x = BEFORE_LAYER[name]
    before = randomized(nn.Sequential(copy.deepcopy(norm), copy.deepcopy(layer)))
    program = canonical(before, x)
    got = run(FoldBatchNorm(), program)
    assert len(operators(got)) == 1
    if layer.bias is not None:
        assert_same(got, canonical(nn.Sequential(copy.deepcopy(layer)), x))
    fresh = torch.randn_like(x)
    with torch.no_grad():
        torch.testing.assert_close(got(fresh), before(fresh), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [(nn.Conv2d(4, 6, 3, padding=1), "pads with zeros"), (nn.ConvTranspose2d(4, 6, 3), "transposed")],
)
def test_a_shift_does_not_go_through_a_border(layer, reason):
    program = canonical(randomized(nn.Sequential(nn.BatchNorm2d(4), layer)), X2)
    assert reason in declined(run(FoldBatchNorm(), program, changes=False))[0]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 6, 3, padding=1), nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False)]
)
def test_a_scale_alone_goes_through_a_border(layer):
    norm = nn.BatchNorm2d(4)
    model = randomized(nn.Sequential(norm, layer))
    nn.init.zeros_(norm.bias)
    nn.init.zeros_(norm.running_mean)
    got = run(FoldBatchNorm(), canonical(model, X2))
    assert len(operators(got)) == 1
    torch.testing.assert_close(got(X2), model(X2).detach(), rtol=1e-4, atol=1e-5)


def test_of_two_neighbours_the_layer_before_takes_the_norm():
    model = randomized(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
    got = run(FoldBatchNorm(), canonical(model, torch.randn(2, 4)))
    assert torch.equal(got.tensor("2.weight"), model[2].weight)
    assert set(got.folded_norms) == {"0"}


def test_norms_on_both_sides_of_a_layer_fold_into_it():
    model = randomized(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5), nn.BatchNorm1d(5)))
    got = run(FoldBatchNorm(), canonical(model, torch.randn(2, 4)))
    assert operators(got) == ["linear"]


def test_names_statistics_and_layers_stay_readable():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)

        def forward(self, x):
            return self.bn(self.conv(x))

    model = randomized(Block())
    got = run(FoldBatchNorm(), canonical(model, X2))
    conv = labels(got.graph)["conv"]
    assert conv.args[1].target == "conv.weight"
    assert origin_of(conv.args[2]).label == "conv.bias"
    assert set(origin_of(conv).layers) == {"conv", "bn"}
    norm = got.folded_norms["conv"]
    torch.testing.assert_close(norm.mean, model.bn.running_mean)
    torch.testing.assert_close(norm.var, model.bn.running_var)
    torch.testing.assert_close(norm.weight, model.bn.weight.detach())
    torch.testing.assert_close(norm.bias, model.bn.bias.detach())


def test_the_models_own_weights_are_left_alone():
    model = randomized(nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    kept = copy.deepcopy(model.state_dict())
    run(FoldBatchNorm(), canonical(model, X2))
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())


class Shared(nn.Module):
    """One convolution, called twice, each time with a batch norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.b(self.conv(self.a(self.conv(x))))


class Tied(nn.Module):
    """Two convolutions over one parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.bn = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.relu(self.bn(self.first(x))))


REFUSED = {
    "weight called twice": (Shared(), X2, "shared"),
    "weight under two names": (Tied(), X2, "shared"),
    "second reader": (
        Fn(lambda m, x: (lambda y: m.bn(y) + y)(m.conv(x)), conv=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(4)),
        X2,
        "readers",
    ),
    "graph output": (
        Fn(lambda m, x: (lambda y: (y, m.bn(y)))(m.conv(x)), conv=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(4)),
        X2,
        "readers",
    ),
    "statistics of the batch": (
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        X2,
        "running statistics|training",
    ),
    "computed weight": (
        Fn(lambda m, x: m.bn(nn.functional.conv2d(x, m.w * m.g)), w=nn.Parameter(torch.randn(4, 4, 1, 1)),
           g=nn.Parameter(torch.rand(4, 1, 1, 1)), bn=nn.BatchNorm2d(4)),
        X2,
        "computed by the graph",
    ),
    "weight stored in another dtype": (
        Fn(lambda m, x: m.bn(nn.functional.conv2d(x, m.w.float())), bn=nn.BatchNorm2d(4),
           w=torch.randint(-9, 9, (4, 4, 1, 1), dtype=torch.int8)),
        X2,
        "computed by the graph",
    ),
    "channels on another axis": (
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(4)),
        torch.randn(2, 4, 5),
        "not the output channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_norm_that_must_stay_says_why(name):
    model, x, reason = REFUSED[name]
    got = run(FoldBatchNorm(), canonical(randomized(model), x), changes=False)
    assert operators(got).count("batch_norm") >= 1
    assert any(word in declined(got)[0] for word in reason.split("|")), declined(got)


def test_a_training_norm_stays():
    program = canonical(randomized(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))), X2)
    editor = Editor(program, "test")
    norm = next(n for n in editor.graph.nodes if n.target is torch.ops.aten.batch_norm.default)
    norm.update_arg(5, True)
    result = FoldBatchNorm().apply(editor.finish())
    assert not result.modified
    assert "training mode" in result.notes[0].text
    assert result.notes[0].kind == "declined"


def test_a_shared_bias_is_not_overwritten():
    model = Fn(
        lambda m, x: m.bn(nn.functional.conv2d(x, m.w, m.b)) + m.b.reshape(1, -1, 1, 1),
        w=nn.Parameter(torch.randn(4, 4, 1, 1)), b=nn.Parameter(torch.randn(4)), bn=nn.BatchNorm2d(4),
    )  # fmt: skip
    got = run(FoldBatchNorm(), canonical(randomized(model), X2))
    assert "batch_norm" not in operators(got)
    assert torch.equal(got.tensor("b"), model.b)
