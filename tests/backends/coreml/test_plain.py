"""Programs that ``ct.convert`` made of PyTorch models, without fxc, against PyTorch; and float16 as the device stores it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxc.backends.coreml.run import load
from tests.backends.coreml.made import convert
from tests.models.zoo import build

coremltools = pytest.importorskip("coremltools")


def sqnr(reference: torch.Tensor, answer: np.ndarray) -> float:
    a = reference.double().numpy()
    return float(20 * np.log10(np.linalg.norm(a) / max(np.linalg.norm(a - answer), 1e-30)))


def seeded(module: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return module().eval()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


IMAGE = torch.linspace(-2, 2, 2 * 4 * 9 * 7).sin().reshape(2, 4, 9, 7) * 2

NETS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "conv": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2), IMAGE),
    "conv same": (lambda: nn.Conv2d(4, 6, 4, padding="same"), IMAGE),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1), IMAGE[..., 0]),
    "conv3d": (lambda: nn.Conv3d(4, 2, (2, 3, 2), (1, 2, 1), (1, 0, 1)), IMAGE[:, :, None].repeat(1, 1, 4, 1, 1)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, (3, 4), (2, 3), (1, 1), (1, 1), groups=2), IMAGE),
    "max pool": (lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), IMAGE),
    "avg pool": (lambda: nn.AvgPool2d((3, 2), (2, 1), (1, 1), count_include_pad=False), IMAGE),
    "avg pool, ceil": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), IMAGE[..., :6]),
    "norms": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)), IMAGE),
    "layer norm": (lambda: nn.LayerNorm((9, 7)), IMAGE),
    "attention": (Attention, IMAGE.reshape(2, -1)[:, :160].reshape(2, 10, 16)),
    "resize": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "resize to corners": (lambda: nn.Upsample(size=(13, 11), mode="bilinear", align_corners=True), IMAGE),
    "nearest": (lambda: nn.Upsample(scale_factor=3), IMAGE),
    "pads": (lambda: nn.Sequential(nn.ReflectionPad2d((1, 2, 3, 0)), nn.ReplicationPad2d(1), nn.ConstantPad2d((0, 1, 2, 0), 1.5)), IMAGE),
    "shuffle": (lambda: nn.Sequential(nn.PixelShuffle(2)), IMAGE),
    "activations": (lambda: nn.Sequential(nn.GELU("tanh"), nn.Hardswish(), nn.ELU(0.7), nn.SiLU(), nn.PReLU(4), nn.Softplus(2.0), nn.Hardsigmoid(), nn.Mish()), IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("export", [True, False], ids=["exported", "traced"])
@pytest.mark.parametrize("name", NETS)
def test_a_layer_as_apple_converts_it(name: str, export: bool, tmp_path: Path) -> None:
    make, x = NETS[name]
    model = seeded(make)
    path = convert(model, (x,), tmp_path / "m.mlpackage", export=export)
    (answer,) = load(path)([x.numpy()])
    np.testing.assert_allclose(answer, model(x).detach().numpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x1_0", "densenet121", "squeezenet1_1", "googlenet", "regnet_y_400mf", "convnext_tiny", "swin_t", "mnasnet0_5"],
)  # fmt: skip
def test_a_model_as_apple_converts_it(name: str, tmp_path: Path) -> None:
    model, x = build(name, resolution=64)
    path = convert(model, (x,), tmp_path / "m.mlpackage")
    (answer,) = load(path)([x.numpy()])
    with torch.no_grad():
        assert sqnr(model(x), answer) > 90


def test_float16_is_rounded_where_the_program_says_so(tmp_path: Path) -> None:
    model, x = (
        seeded(lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))),
        torch.linspace(-1, 1, 16).reshape(2, 8),
    )
    path = convert(model, (x,), tmp_path / "m.mlpackage", half=True)
    with torch.no_grad():
        weights = [p.half().float() for p in model.parameters()]
        plain = F.linear(torch.tanh(F.linear(x, weights[0], weights[1])), weights[2], weights[3])
        inner = F.linear(x.half().float(), weights[0], weights[1]).half().float()
        stored = F.linear(torch.tanh(inner).half().float(), weights[2], weights[3]).half().float()
    np.testing.assert_allclose(load(path)([x.numpy()])[0], plain.numpy(), rtol=1e-6, atol=1e-6)
    rounded = load(path, precision="f16")([x.numpy()])[0]
    np.testing.assert_allclose(rounded, stored.numpy(), rtol=1e-6, atol=1e-6)
    assert np.abs(rounded - plain.numpy()).max() > 1e-5


def test_what_leaves_float16_is_named(tmp_path: Path) -> None:
    path = convert(lambda x: (x * x).sum(1), (torch.full((2, 3), 2.0),), tmp_path / "m.mlpackage", half=True)
    runner = load(path, precision="f16")
    assert np.isfinite(runner([np.full((2, 3), 2.0, np.float32)])[0]).all()
    assert not runner.overflows
    assert np.isinf(runner([np.array([[300, 1, 2], [1, 2, 300]], np.float32)])[0]).all()
    assert sum(runner.overflows.values()) >= 2
    assert np.isfinite(load(path)([np.full((2, 3), 300.0, np.float32)])[0]).all()


def test_a_classifier(tmp_path: Path) -> None:
    model, x = (
        seeded(lambda: nn.Sequential(nn.Linear(8, 3), nn.Softmax(1))),
        torch.linspace(-1, 1, 8).reshape(1, 8),
    )
    config = coremltools.ClassifierConfig(["cat", "dog", "eel"])
    path = convert(model, (x,), tmp_path / "m.mlpackage", export=False, classifier_config=config)
    found = load(path).values([x.numpy()])
    scores = model(x).flatten().tolist()
    assert found[0] == ["cat", "dog", "eel"][int(np.argmax(scores))]
    assert found[1] == pytest.approx(dict(zip(["cat", "dog", "eel"], scores)), abs=1e-6)


@pytest.mark.parametrize("sizes", [(1, 12, 12), (2, 16, 24)])
def test_a_model_of_any_size(sizes: tuple[int, int, int], tmp_path: Path) -> None:
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )
    )
    ct = coremltools
    shape = ct.Shape((ct.RangeDim(1, 4, 1), 3, ct.RangeDim(8, 64, 16), ct.RangeDim(8, 64, 16)))
    path = convert(
        model,
        (torch.rand(1, 3, 16, 16),),
        tmp_path / "m.mlpackage",
        export=False,
        inputs=[ct.TensorType(name="x", shape=shape)],
    )
    x = torch.rand(sizes[0], 3, *sizes[1:])
    np.testing.assert_allclose(load(path)([x.numpy()])[0], model(x).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ios", [16, 18])
@pytest.mark.parametrize("way", ["linear", "palettize", "prune", "prune and palettize"])
def test_weights_as_apple_compresses_them(way: str, ios: int, tmp_path: Path) -> None:
    cto = pytest.importorskip("coremltools.optimize.coreml")
    model, x = seeded(lambda: nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3))), IMAGE
    path = convert(model, (x,), tmp_path / "m.mlpackage", ios=ios)
    package = coremltools.models.MLModel(str(path), skip_model_load=True)
    steps = {
        "linear": [(cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=16))],
        "palettize": [(cto.palettize_weights, cto.OpPalettizerConfig(nbits=4, weight_threshold=16))],
        "prune": [(cto.prune_weights, cto.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=16))],
    }  # fmt: skip
    steps["prune and palettize"] = [*steps["prune"], *steps["palettize"]] if ios == 18 else steps["prune"]
    for number, (function, config) in enumerate(steps[way]):
        package = function(
            package, cto.OptimizationConfig(config), **({"joint_compression": True} if number else {})
        )
    package.save(str(tmp_path / "small.mlpackage"))
    plain = cto.decompress_weights(package)
    plain.save(str(tmp_path / "plain.mlpackage"))
    small, whole = (load(tmp_path / f"{name}.mlpackage") for name in ("small", "plain"))
    assert any(kind.startswith("constexpr_") for kind, _ in small.plan.operators)
    assert not any(kind.startswith("constexpr_") for kind, _ in whole.plan.operators)
    np.testing.assert_allclose(small([x.numpy()])[0], whole([x.numpy()])[0], rtol=1e-4, atol=1e-5)
