"""Where TensorRT wants quantizers, rule by rule, each with its counter-example; sources in the scheme's own file."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxc.backends.tensorrt.target import SCHEME
from fxc.compiler.capture import capture
from fxc.compiler.origin import label_of
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_CHANNEL, QUANTIZE_TENSOR
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ


def images(n: int = 4) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def quantized(model: nn.Module) -> Program:
    torch.manual_seed(0)
    program = run_pipeline(capture(model.eval(), (images(1),)), optimize())
    annotated = run_pipeline(program, (Annotate(SCHEME),))
    statistics = calibrate(annotated, [images()])
    return run_pipeline(annotated, (InsertQDQ(SCHEME.share_ratio, SCHEME.mix_signs, statistics),))


def coded(model: nn.Module) -> set[str]:
    """Labels of the tensors behind which a quantizer stands."""
    found = [n.args[0] for n in quantized(model).graph.nodes if n.target is QUANTIZE_TENSOR]
    return {"x" if source.op == "placeholder" else label_of(source) for source in found}


def conv(cin: int, cout: int, **words: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, padding=1, **words)


class Net(nn.Module):
    """Layers by name for the nets below."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right, self.head = conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 4)
        self.pool, self.norm, self.up = (
            nn.MaxPool2d(2),
            nn.LayerNorm(8),
            nn.ConvTranspose2d(8, 6, 2, stride=2),
        )
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.fc, self.wide = nn.Linear(8, 5), conv(16, 4)

    def start(self, x: Tensor) -> Tensor:
        return self.stem(x).relu()


class Skip(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        return self.head((self.left(x) + x).relu())


class Downsample(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        return self.head((self.left(x) + self.right(x)).relu())


class SkipOfTwoReaders(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        y = self.left(x)
        return self.head((y + x).relu()) + self.head(y)


class SkipBehindActivation(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        return self.head((self.left(x).relu() + x).relu())


def test_only_the_skip_branch_of_a_residual_sum_is_coded() -> None:
    assert coded(Skip()) == {"x", "relu", "relu_1"}


def test_of_two_convolutions_one_is_added_by_the_other() -> None:
    """The one computed last does the sum."""
    assert coded(Downsample()) == {"x", "relu", "left", "relu_1"}


@pytest.mark.parametrize(
    ("net", "branch"), [(SkipOfTwoReaders(), "left"), (SkipBehindActivation(), "relu_1")]
)
def test_a_branch_that_no_kernel_can_take_is_coded(net: nn.Module, branch: str) -> None:
    assert branch in coded(net)


def test_nothing_between_a_convolution_and_its_activation() -> None:
    found = coded(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.SiLU(), conv(8, 4)))
    assert found == {"x", "2"}, "the activation's result, not the convolution's"


def test_no_quantizer_on_an_output_that_nothing_reads_in_int8() -> None:
    assert coded(nn.Sequential(conv(3, 8), nn.ReLU())) == {"x"}


class Pooled(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.left(self.pool(self.start(x)))


class Moved(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        return self.left(x.transpose(2, 3)[:, :, 1:]) + self.right(x.transpose(2, 3)[:, :, 1:])


def test_what_moves_values_has_no_pair_of_its_own() -> None:
    assert coded(Pooled()) == {"x", "pool"}, "one pair, where the layer reads"
    assert "relu" not in coded(Moved())


class Joined(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        return self.wide(torch.cat([self.left(x), self.right(x)], 1))


def test_a_concat_shares_one_scale() -> None:
    program = quantized(Joined())
    scales = {label_of(n.args[0]): n.args[1] for n in program.graph.nodes if n.target is QUANTIZE_TENSOR}
    assert scales["left"] == scales["right"] == scales["cat"]
    assert scales["relu"] != scales["cat"]


class Gated(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.left(x * gate)


def test_a_product_of_tensors_stays_float_and_its_reader_codes_it() -> None:
    found = coded(Gated())
    assert "mul" in found
    assert "sigmoid" not in found


class Tokens(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x).flatten(2).transpose(1, 2)
        return x + self.fc(self.norm(x)).sum()


def test_a_linear_behind_a_norm_codes_its_input_only() -> None:
    found = coded(Tokens())
    assert "norm" in found
    assert "add" not in found


@pytest.mark.parametrize(("net", "axis"), [(Pooled(), 0), (nn.Sequential(conv(3, 8), Net().up), 1)])
def test_weights_per_output_channel(net: nn.Module, axis: int) -> None:
    weights = [n for n in quantized(net).graph.nodes if n.target is DEQUANTIZE_CHANNEL]
    assert weights[-1].args[3] == axis


@pytest.mark.parametrize("net", [Skip(), Joined(), Gated(), Tokens()])
def test_symmetric_everywhere_and_biases_in_float(net: nn.Module) -> None:
    program = quantized(net)
    zeros = [n.args[2] for n in program.graph.nodes if n.target is QUANTIZE_TENSOR]
    assert set(zeros) == {0}
    dtypes = {n.args[0].meta["val"].dtype for n in program.graph.nodes if n.target in DEQUANTIZE}
    assert dtypes == {torch.int8}
