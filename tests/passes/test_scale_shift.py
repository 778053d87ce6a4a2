"""A batch norm without a layer beside it, as one multiplication and one addition."""

import pytest
import torch
from torch import nn

from fxc.compiler.origin import labels
from fxc.passes.scale_shift import ScaleShift
from tests.passes.checks import Fn, assert_same, canonical, declined, operators, randomized, run

NORMS = {
    "rows": (nn.BatchNorm1d(5), torch.randn(3, 5), (1, 5)),
    "1d": (nn.BatchNorm1d(5), torch.randn(3, 5, 4), (1, 5, 1)),
    "2d": (nn.BatchNorm2d(5), torch.randn(3, 5, 4, 4), (1, 5, 1, 1)),
    "3d": (nn.BatchNorm3d(5), torch.randn(3, 5, 2, 3, 4), (1, 5, 1, 1, 1)),
    "without affine": (nn.BatchNorm2d(5, affine=False), torch.randn(3, 5, 4, 4), (1, 5, 1, 1)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_becomes_scale_and_shift(name):
    norm, x, shape = NORMS[name]
    model = randomized(nn.Sequential(nn.ReLU(), norm))
    got = run(ScaleShift(), canonical(model, x))
    scale, shift = torch.randn(shape), torch.randn(shape)
    assert_same(got, canonical(Fn(lambda m, x: x.relu() * m.scale + m.shift, scale=scale, shift=shift), x))
    fresh = torch.randn_like(x)
    with torch.no_grad():
        torch.testing.assert_close(got(fresh), model(fresh), rtol=1e-5, atol=1e-5)


def test_the_statistics_are_kept_under_the_norms_own_label():
    model = randomized(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    got = run(ScaleShift(), canonical(model, torch.randn(2, 4, 3, 3)))
    assert labels(got.graph)["1"].target is torch.ops.aten.add.Tensor
    torch.testing.assert_close(got.folded_norms["1"].mean, model[1].running_mean)
    torch.testing.assert_close(got.folded_norms["1"].weight, model[1].weight.detach())


def test_half_precision_keeps_its_dtype():
    model = randomized(nn.Sequential(nn.BatchNorm2d(4))).half()
    x = torch.randn(2, 4, 3, 3).half()
    got = ScaleShift().apply(canonical(model, x)).program
    assert got(x).dtype == torch.float16
    torch.testing.assert_close(got(x), model(x).detach(), rtol=5e-3, atol=5e-3)


def test_a_norm_by_the_batchs_own_statistics_stays():
    program = canonical(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), torch.randn(2, 4, 3, 3))
    got = run(ScaleShift(), program, changes=False)
    assert operators(got) == ["batch_norm"]
    assert "declined" in declined(got)[0]
