"""What goes back to the GPU: each limit of the accelerator with a layer that breaks it and one that just does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fxc
from fxc.backends.tensorrt.dla_pool import DlaPool
from fxc.backends.tensorrt.dla_scheme import DLA_SCHEME
from fxc.compiler.backend import Violation
from fxc.compiler.origin import label_of
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.qdq import QUANTIZE_TENSOR
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from tests.conformance.case import Fn


def image(channels: int = 4, height: int = 40, width: int = 40) -> Tensor:
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))


def found(net: nn.Module | Callable[..., Tensor], *inputs: Tensor) -> list[Violation]:
    module = net if isinstance(net, nn.Module) else Fn(net)
    given = inputs or (image(),)
    return fxc.lint(module.eval(), "jetson-int8-dla", example_inputs=given, dynamic_batch=False)


def conv(kernel: int = 3, **words: int) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, **words)


def deconv(kernel: int = 2, **words: int) -> nn.Module:
    return nn.ConvTranspose2d(4, 4, kernel, **words)


LIMITS = [
    (conv(32, padding=31), conv(33, padding=31), "kernel [33, 33], where the accelerator has 1 to 32"),
    (conv(stride=8), conv(stride=9), "stride [9, 9]"),
    (conv(padding=31), conv(padding=32), "padding [32, 32]"),
    (conv(2, dilation=32), conv(2, dilation=33), "dilation [33, 33]"),
    (deconv(32, stride=32), deconv(33, stride=32), "kernel [33, 33]"),
    (deconv(2), deconv(2, padding=1), "padding [1, 1], where the accelerator has only 0"),
    (deconv(2, stride=3), deconv(2, stride=3, output_padding=1), "output padding [1, 1]"),
    (deconv(2), deconv(2, groups=4), "in 4 groups, where the accelerator has one"),
    (deconv(2), deconv(2, dilation=2), "dilation [2, 2]"),
    (nn.MaxPool2d(8, 16), nn.MaxPool2d(9, 16), "kernel [9, 9]"),
    (nn.MaxPool2d(8, 16), nn.MaxPool2d(8, 17), "stride [17, 17]"),
    (nn.MaxPool2d(8), nn.MaxPool2d(3, dilation=2), "dilation [2, 2]"),
    (nn.AvgPool2d(8, padding=4), nn.AvgPool2d(10, padding=5), "kernel [10, 10]"),
    (
        lambda x: torch.cat([x, x.relu()], 1),
        lambda x: torch.cat([x, x.relu()], 2),
        "concatenation along axis 2",
    ),
    (lambda x: torch.cat([x, x.relu()], -3), lambda x: torch.cat([x, x.relu()], -1), "axis 3"),
    (nn.Upsample(scale_factor=32), nn.Upsample(scale_factor=33), "resizing by 33 by 33"),
    (nn.Upsample(scale_factor=3), nn.Upsample(scale_factor=1.5), "whole factors of 1 to 32"),
    (nn.Upsample(scale_factor=4, mode="bilinear"), nn.Upsample(scale_factor=5, mode="bilinear"), "1 to 4"),
    (lambda x: F.adaptive_avg_pool2d(x[:, :, :8, :8], 1), lambda x: F.adaptive_avg_pool2d(x, 1), "8 by 8"),
    (nn.Sigmoid(), nn.SiLU(), "the accelerator has no silu"),
    (nn.LeakyReLU(), nn.ELU(), "the accelerator has no elu"),
    (lambda x: x + x.relu(), lambda x: x * x.relu(), "multiplies codes of one scale"),
    (lambda x: x.relu(), lambda x: x.softmax(1), "no such operator"),
    (lambda x: x.relu(), lambda x: x @ x.transpose(2, 3), "constant weights only"),
    (lambda x: x.relu(), nn.LayerNorm(40), "no normalization"),
    (lambda x: x.relu(), lambda x: torch.linalg.vector_norm(x, dim=1), "the accelerator has no"),
    (nn.Flatten(), lambda x: x.repeat(1, 2100, 1, 1).relu(), "shape [1, 8400, 40, 40]"),
]


@pytest.mark.parametrize(("inside", "outside", "said"), LIMITS, ids=[said for *_, said in LIMITS])
def test_a_limit(inside: nn.Module, outside: nn.Module, said: str) -> None:
    assert found(inside) == []
    violations = found(outside)
    assert any(said in v.rule for v in violations), violations
    assert all(v.layer and v.fix and not v.fatal and "; the GPU runs it" in v.rule for v in violations)


class Net(nn.Module):
    """One layer out of bounds between two that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.last = conv(), conv(33, padding=16), conv()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.wide(self.first(x)))


def test_the_layer_and_its_source_line_are_named() -> None:
    (violation,) = found(Net())
    assert violation.layer == "wide"
    assert "test_dla_legal.py" in str(violation.source)


def test_a_batch_that_is_too_large() -> None:
    assert found(conv(1), image().expand(4096, 4, 40, 40)[:, :, :1, :1]) == []
    assert any("4097" in v.rule for v in found(conv(1), image().expand(4097, 4, 40, 40)[:, :, :1, :1]))


def test_a_dynamic_batch_is_fatal_and_the_rest_is_told_beside_it() -> None:
    violations = fxc.lint(Net().eval(), "jetson-int8-dla", example_inputs=(image().expand(2, -1, -1, -1),))
    assert [(v.layer, v.fatal) for v in violations] == [("x", True), ("wide", False)]


def test_what_runs_on_the_gpu_is_compiled_and_coded_all_the_same() -> None:
    artifact = fxc.compile(
        Net().eval(),
        "jetson-int8-dla",
        example_inputs=(image(),),
        dynamic_batch=False,
        calibration_data=[image()],
    )
    assert all(row["quantized"] for row in artifact.report["layers"])
    assert (artifact.path / "model.dla.layers.txt").read_text() == ""


def test_global_pooling_over_a_small_image_gets_a_window() -> None:
    for size, kinds in ((8, ["avg_pool2d"]), (9, ["adaptive_avg_pool2d"])):
        program = run_pipeline(
            fxc.capture(nn.AdaptiveAvgPool2d(1), (image(4, size, size),), dynamic_batch=False), optimize()
        )
        done = DlaPool().apply(program)
        names = [str(n.target).split(".")[1] for n in done.program.graph.nodes if n.op == "call_function"]
        assert names == kinds
        assert done.modified == (size == 8)
        (want,) = program.run_flat(image(4, size, size))
        assert torch.allclose(done.program.run_flat(image(4, size, size))[0], want, atol=1e-6)


def test_a_pool_to_more_than_one_value_stays() -> None:
    program = run_pipeline(fxc.capture(nn.AdaptiveAvgPool2d(2), (image(4, 8, 8),)), optimize())
    assert not DlaPool().apply(program).modified


class Shared(nn.Module):
    """Two residual sums in a row, and a concat, of branches whose ranges differ by far."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (conv(padding=1) for _ in range(4))
        with torch.no_grad():
            self.a.weight.mul_(100)
            self.b.weight.mul_(1e-3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        y = (self.b(a) + a).relu()
        return torch.cat([self.c(y) + y, self.d(x)], 1)


def test_summands_share_a_scale_whatever_their_ranges_and_sums_have_their_own() -> None:
    torch.manual_seed(0)
    program = run_pipeline(fxc.capture(Shared(), (image(),), dynamic_batch=False), optimize())
    annotated = run_pipeline(program, (Annotate(DLA_SCHEME),))
    statistics = calibrate(annotated, [image()])
    scheme = DLA_SCHEME
    done = run_pipeline(annotated, (InsertQDQ(scheme.share_ratio, scheme.mix_signs, statistics),))
    scales = {label_of(n.args[0]): n.args[1] for n in done.graph.nodes if n.target is QUANTIZE_TENSOR}
    assert scales["b"] == scales["a"]
    assert scales["c"] == scales["relu"] != scales["a"]
    assert scales["cat"] != scales["d"], "a branch of a concat is not coarsened a hundredfold"
    peaks = statistics.tensors["b"].high, statistics.tensors["a"].high
    assert max(peaks) > 10 * min(peaks)
