"""The test models are alive, repeatable and capturable, and the guard that says so can say no."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.efficientnet import MBConv, MBConvConfig

from tests.models.alive import assert_alive, dead_layers, least_move, moves
from tests.models.images import images
from tests.models.liven import liven, measure_batch_norm, residual_blocks, scale_branches
from tests.models.metrics import VanishingOutput, rel_l2, rel_max, sqnr_db
from tests.models.small import SMALL, build_small, small_inputs
from tests.models.yolo import Yolo
from tests.models.zoo import NAMES, PURE_CONV, build

LIGHT = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "squeezenet1_1",
    "yolo",
)
HEAVY = {
    "efficientnet_b0": 224,
    "resnet50": 128,
    "densenet121": 96,
    "googlenet": 128,
    "convnext_tiny": 64,
    "vit_b_16": 64,
    "swin_t": 160,
}


def test_every_model_of_the_zoo_is_guarded_here() -> None:
    assert sorted((*LIGHT, *HEAVY)) == sorted(NAMES)
    assert len(NAMES) == 14
    assert len(PURE_CONV) == 11


@pytest.mark.parametrize("name", LIGHT)
def test_light_model_is_alive(name: str) -> None:
    assert_alive(*build(name, resolution=128))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_heavy_model_is_alive(name: str) -> None:
    assert_alive(*build(name, resolution=HEAVY[name]))


@pytest.mark.parametrize("name", SMALL)
def test_small_net_is_alive(name: str) -> None:
    assert_alive(*build_small(name))


def test_guard_fails_on_plain_vit() -> None:
    with pytest.raises(VanishingOutput):
        assert_alive(*build("vit_b_16", resolution=32, livened=False))


def test_guard_fails_on_plain_convnext() -> None:
    with pytest.raises(
        AssertionError, match=r"features\.1\.0\.block\.0\.weight: zeroing it moves the output by"
    ):
        assert_alive(*build("convnext_tiny", resolution=64, livened=False))


def test_guard_names_the_one_dead_layer() -> None:
    model, inputs = build_small("residual")
    nn.init.zeros_(model.get_parameter("a2.1.weight"))
    assert list(dead_layers(model, inputs)) == ["a1.0.weight", "a2.0.weight"]


def test_guard_tells_apart_the_parts_of_a_packed_projection() -> None:
    model, inputs = build_small("transformer")
    with torch.no_grad():
        model.get_parameter("qkv.weight")[:32] = 0
    assert list(dead_layers(model, inputs)) == ["qkv.weight[q]"]


def test_guard_leaves_the_model_as_it_was() -> None:
    model, inputs = build_small("conv_transpose")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert set(moves(model, inputs)) == {"stem.0.weight", "up.weight"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_guard_refuses_training_mode() -> None:
    model, inputs = build_small("conv_chain")
    with pytest.raises(AssertionError, match="eval mode"):
        assert_alive(model.train(), inputs)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "yolo"])
def test_build_is_deterministic_and_leaves_the_global_generator(name: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    (one, x), (two, y), (other, _) = (build(name, resolution=64, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(x, y)
    assert one.state_dict().keys() == two.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    assert rel_l2(other(x), one(x)) > 0.1


def test_liven_replaces_constants_and_keeps_frozen_parameters() -> None:
    model, _ = build("yolo", resolution=64)
    assert torch.equal(model.get_parameter("head.dfl.conv.weight").flatten(), torch.arange(16.0))
    constant = [
        n for n, p in model.named_parameters() if p.requires_grad and bool((p == p.flatten()[0]).all())
    ]
    assert constant == []


def test_batch_norm_statistics_are_the_average_over_the_batches() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    batches = [(images(4, 16, seed),) for seed in (1, 2)]
    measure_batch_norm(model, batches)
    with torch.no_grad():
        seen = [model[0](batch) for (batch,) in batches]
    mean = torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0)
    variance = torch.stack([s.transpose(0, 1).flatten(1).var(1) for s in seen]).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert model[1].momentum == 0.1
    assert not model[1].training


def test_branch_gain_scales_what_a_residual_block_adds() -> None:
    block = MBConv(MBConvConfig(4, 3, 1, 8, 8, 1), 0.0, nn.BatchNorm2d).eval()
    x = images(2, 8, seed=3, channels=8)
    with torch.no_grad():
        added = block(x) - x
        scale_branches(block, 0.25)
        torch.testing.assert_close(block(x) - x, 0.25 * added, rtol=1e-4, atol=1e-5)
    assert residual_blocks(block) == [block]
    assert residual_blocks(nn.Conv2d(8, 8, 1)) == []


def test_least_move_looks_at_weights_spread_over_the_depth() -> None:
    model, inputs = build_small("residual")
    found = list(moves(model, inputs))
    assert list(moves(model, inputs, 3)) == [found[0], found[(len(found) - 1) // 2], found[-1]]
    assert least_move(model, inputs, 100) == min(moves(model, inputs).values())


def test_liven_raises_on_overflow() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with torch.no_grad():
        model.get_parameter("0.bias")[0] = math.inf
    with pytest.raises(AssertionError, match="NaN or infinity"):
        liven(model, [(torch.randn(2, 4),)])


def test_relu6_clamps_at_both_ends() -> None:
    """A compiler that turned ReLU6 into ReLU must be seen."""
    model, x = build("mobilenet_v2", resolution=96)
    clamped: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_pre_hook(
                lambda _, args: clamped.append(float((args[0] > 6).float().mean()))
            )
    model(x)
    assert sum(share > 0 for share in clamped) >= 5
    assert max(clamped) < 0.5


def test_yolo_exports_with_a_dynamic_batch() -> None:
    model, x = build("yolo", resolution=64)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (torch.cat([x, x]),), dynamic_shapes=({0: batch},))
    for size in (1, 3):
        fresh = images(size, 64, seed=9)
        assert rel_l2(program.module()(fresh), model(fresh)) < 1e-6


@pytest.mark.parametrize("name", SMALL)
def test_small_net_exports_with_a_dynamic_batch(name: str) -> None:
    model, inputs = build_small(name)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    fresh = small_inputs(name, 5, seed=7)
    assert rel_l2(program.module()(*fresh), model(*fresh)) < 1e-6


def test_yolo_boxes_are_pixels_and_scores_are_spread() -> None:
    model, x = build("yolo", resolution=128)
    assert 2.5e6 < sum(p.numel() for p in model.parameters()) < 3.5e6
    with torch.no_grad():
        y = model(x)
    assert y.shape == (1, 84, 16 * 16 + 8 * 8 + 4 * 4)
    scores = y[0, 4:]
    assert float(scores.quantile(0.05)) < 0.1
    assert float(scores.quantile(0.95)) > 0.6
    assert float(y[0, 2:4].min()) > 0
    assert float(y[0, :4].max()) > 32


def test_yolo_dfl_is_the_expected_bin() -> None:
    logits = torch.randn(2, 64, 5)
    expected = (logits.view(2, 4, 16, 5).softmax(2) * torch.arange(16.0).view(1, 1, 16, 1)).sum(2)
    torch.testing.assert_close(Yolo(32).head.dfl(logits), expected)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="resnet19"):
        build("resnet19")
    with pytest.raises(ValueError, match="nosuch"):
        build_small("nosuch")
    with pytest.raises(ValueError, match="multiple of 32"):
        build("yolo", resolution=100)


def test_images_are_structured_normalised_and_stable_by_index() -> None:
    x = images(8, 64, seed=5)
    assert x.shape == (8, 3, 64, 64)
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((1, 2, 3), correction=0), torch.ones(8))
    assert torch.equal(images(2, 64, seed=5), x[:2])
    assert not torch.equal(images(2, 64, seed=6), x[:2])
    neighbours = (x[..., 1:] * x[..., :-1]).mean((1, 2, 3))
    assert float(neighbours.min()) > 0.5


def test_heavy_tailed_images_have_outliers() -> None:
    light, heavy = images(4, 64, seed=5), images(4, 64, seed=5, heavy_tailed=True)
    assert float(light.pow(4).mean()) < 6
    assert float(heavy.pow(4).mean()) > 30
    torch.testing.assert_close(heavy.std((1, 2, 3), correction=0), torch.ones(4))


def test_metrics_follow_their_formulas() -> None:
    a, b = torch.tensor([3.0, 4.0, 1.0]), torch.tensor([3.0, 4.0, 0.0])
    assert rel_l2(a, b) == pytest.approx(0.2)
    assert rel_max(a, b) == pytest.approx(0.25)
    assert sqnr_db(b, a) == pytest.approx(20 * math.log10(5))
    assert sqnr_db(b, b) == math.inf
    assert rel_l2({"x": a, "y": (b,)}, {"x": a.numpy(), "y": (b,)}) == 0


@pytest.mark.parametrize("metric", [rel_l2, rel_max, sqnr_db])
def test_metrics_raise_on_zero_outputs(metric) -> None:  # type: ignore[no-untyped-def]
    zeros, ones = torch.zeros(4), torch.ones(4)
    for pair in ((zeros, ones), (ones, zeros), (zeros, zeros), (1e-9 * ones, ones)):
        with pytest.raises(VanishingOutput):
            metric(*pair)
    with pytest.raises(AssertionError, match="NaN or infinity"):
        metric(ones * math.nan, ones)
    with pytest.raises(AssertionError, match="differ in shape"):
        metric(torch.ones(1, 4), ones)
