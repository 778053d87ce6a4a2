"""Equalization: what commutes with a factor and what does not, and that eight bits gain by it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.equalize import Equalize
from fxc.passes.quantize.probe import probe
from tests.passes.checks import Fn, captured, declined, run


def images(channels: int = 3, size: int = 8) -> Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def factors(channels: int) -> Tensor:
    return torch.logspace(-2.0, 2.0, channels)


def equalized(model: nn.Module, x: Tensor, *, changes: bool = True) -> Program:
    torch.manual_seed(0)
    program = run_pipeline(captured(model, x), optimize())
    return run(Equalize(probed=probe(program, (x,))), program, changes=changes)


def spread(program: Program, name: str, x: Tensor) -> float:
    """Largest over median channel range of what a node computes; channels on axis 1, or last for rank 3."""
    with torch.no_grad():
        seen: dict[str, Tensor] = {}

        class Watch(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> object:
                seen[n.name] = super().run_node(n)
                return seen[n.name]

        Watch(program.graph_module).run(x, enable_io_processing=False)
    value = seen[name] if seen[name].dim() == 4 else seen[name].movedim(-1, 1)
    size = value.abs().amax([d for d in range(value.dim()) if d != 1])
    return float(size.max() / size.median())


def uneven(layer: nn.Module, reader: nn.Module) -> None:
    """Rows times factors, columns divided: the pair's function stays."""
    with torch.no_grad():
        s = factors(layer.weight.shape[0])
        layer.weight.mul_(s.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.mul_(s)
        columns = s.reshape(-1, 1) if getattr(reader, "groups", 1) > 1 else s.reshape(1, -1)
        reader.weight.div_(columns.reshape(*columns.shape, *[1] * (reader.weight.dim() - 2)))


@pytest.mark.parametrize(
    "between",
    [nn.Identity(), nn.ReLU(), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3)],
    ids=lambda m: type(m).__name__,
)
def test_a_pair_of_convolutions_becomes_even(between: nn.Module) -> None:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
    uneven(first, second)
    program = equalized(nn.Sequential(first, between, second), images())
    assert spread(program, "_0", images()) < 3.0


def test_a_chain_through_a_depthwise_convolution() -> None:
    first, depthwise, last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 4, 1)
    with torch.no_grad():
        first.bias.add_(2.0)
        depthwise.bias.add_(2.0)  # no channel is dead behind its ReLU
    uneven(first, depthwise)
    uneven(depthwise, last)
    program = equalized(nn.Sequential(first, nn.ReLU(), depthwise, nn.ReLU(), last), images())
    assert spread(program, "_1", images()) < 3.0
    assert spread(program, "_3", images()) < 3.0


def test_a_residual_stream_takes_one_factor_per_channel() -> None:
    model = Fn(
        lambda m, x: m.head(m.block(m.stem(x)) + m.stem(x)),
        stem=nn.Conv2d(3, 8, 1),
        block=nn.Conv2d(8, 8, 3, padding=1),
        head=nn.Conv2d(8, 4, 1),
    )
    with torch.no_grad():
        s = factors(8).reshape(-1, 1, 1, 1)
        model.stem.weight.mul_(s)
        model.stem.bias.mul_(s.flatten())
        model.block.weight.mul_(s).div_(s.reshape(1, -1, 1, 1))
        model.head.weight.div_(s.reshape(1, -1, 1, 1))
    program = equalized(model, images())
    assert spread(program, "add", images()) < 3.0


def test_branches_of_a_concat() -> None:
    model = Fn(
        lambda m, x: m.head(torch.cat([m.a(x), F.relu(m.b(x))], 1)),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 4, 1),
        head=nn.Conv2d(8, 4, 1),
    )
    with torch.no_grad():
        s = factors(8)
        model.a.weight.mul_(s[:4].reshape(-1, 1, 1, 1))
        model.b.weight.mul_(s[4:].reshape(-1, 1, 1, 1))
        model.head.weight.div_(s.reshape(1, -1, 1, 1))
    assert spread(equalized(model, images()), "cat", images()) < 3.0


def test_an_outlier_channel_behind_a_layer_norm() -> None:
    norm, reader = nn.LayerNorm(32), nn.Linear(32, 16)
    with torch.no_grad():
        norm.weight[5], reader.weight[:, 5] = 80.0, reader.weight[:, 5] / 80.0
    x = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(0))
    program = equalized(nn.Sequential(norm, reader), x)
    assert spread(program, "_0", x) < 4.0


def test_the_value_path_of_attention() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            qkv = self.qkv(x).reshape(x.shape[0], -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
            return self.out(y.transpose(1, 2).reshape(x.shape[0], -1, 16))

    model, x = Attention(), torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        s = factors(16)
        model.qkv.weight[32:].mul_(s.reshape(-1, 1))
        model.qkv.bias[32:].mul_(s)
        model.out.weight.div_(s)
    program = equalized(model, x)
    weight = program.tensor("qkv.weight").detach()
    assert torch.equal(weight[:32], model.qkv.weight[:32].detach()), "queries and keys must stay"
    size = (weight[32:].square().sum(1)).sqrt()
    assert float(size.max() / size.min()) < 10.0


@pytest.mark.parametrize(
    "between", [nn.SiLU(), nn.ReLU6(), nn.Hardswish(), nn.Sigmoid()], ids=lambda m: type(m).__name__
)
def test_what_does_not_commute_is_left_alone_and_named(between: nn.Module) -> None:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
    uneven(first, second)
    program = run_pipeline(captured(nn.Sequential(first, between, second), images()), optimize())
    result = Equalize(probed=probe(program, (images(),))).apply(program)
    assert not result.modified
    assert any("does not commute with a factor" in n.text and n.layer == "0" for n in result.notes)


def test_an_output_of_the_model_keeps_its_channels() -> None:
    model = Fn(lambda m, x: (y := m.a(x), m.b(y)), a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 4, 1))
    uneven(model.a, model.b)
    equalized(model, images(), changes=False)


def test_a_weight_that_two_layers_share_keeps_its_channels() -> None:
    shared = nn.Conv2d(8, 8, 1)
    first = nn.Conv2d(3, 8, 1)
    uneven(first, shared)
    equalized(nn.Sequential(first, nn.ReLU(), shared, nn.SiLU(), shared), images(), changes=False)


def test_positions_are_no_channels() -> None:
    """A linear layer over pixels reads another axis than the convolution before it made."""
    model = Fn(lambda m, x: m.b(m.a(x).flatten(2)), a=nn.Conv2d(3, 8, 1), b=nn.Linear(64, 4))
    with torch.no_grad():
        model.a.weight.mul_(factors(8).reshape(-1, 1, 1, 1))
    equalized(model, images(), changes=False)


def test_even_channels_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    program = equalized(model, images(), changes=False)
    assert not declined(program)


def test_the_report_says_how_much_was_evened_out() -> None:
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
    uneven(first, second)
    program = equalized(nn.Sequential(first, nn.ReLU(), second), images())
    (note,) = [n.text for n in program.notes if n.by == "equalize" and n.kind == "info"]
    assert "1 group of tensors equalized, 8 channels" in note
    assert "dB less noise" in note


def test_eight_bits_gain_what_the_factors_cost() -> None:
    first, second = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 16, 1)
    even = nn.Sequential(first, nn.ReLU(), second)
    x = images()

    def noise(program: Program) -> float:
        """Of the tensor between, coded with PyTorch's own fake quantization, at the output."""
        (want,) = program.run_flat(x)
        with torch.no_grad():
            weight, bias = program.tensor("0.weight"), program.tensor("0.bias")
            y = F.relu(F.conv2d(x, weight, bias))
            coded = torch.fake_quantize_per_tensor_affine(y, float(y.max()) / 255, 0, 0, 255)
            got = F.conv2d(coded, program.tensor("2.weight"), program.tensor("2.bias"))
        return float(10 * torch.log10((got - want).square().sum() / want.square().sum()))

    plain = noise(run_pipeline(captured(even, x), optimize()))
    uneven(first, second)
    spoiled = noise(run_pipeline(captured(even, x), optimize()))
    repaired = noise(equalized(even, x))
    assert spoiled > plain + 10.0
    assert repaired < plain + 1.0
