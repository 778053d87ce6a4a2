"""Where quantizers go: small nets, a small scheme, every rule with its counter-example."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxc.compiler.capture import capture
from fxc.compiler.config import LayerConfig, QuantConfig
from fxc.compiler.errors import CalibrationError, UsageError
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.compiler.quant import I8, I8_WEIGHT, U8, OpRule, QuantScheme
from fxc.compiler.text import structural_hash
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.proof import sqnr_db

ACTIVATIONS = ("relu", "hardtanh", "silu")
SCHEME = QuantScheme(
    "small",
    rules=(
        OpRule(("conv2d", "conv_transpose2d"), inputs=U8, weight=I8_WEIGHT, bias="int32", fuses=ACTIVATIONS),
        OpRule(("linear",), inputs=U8, weight=I8_WEIGHT, bias="int32", max_rank=2),
        OpRule(("linear",), inputs=I8, inputs_after={"gelu": U8}, weight=I8_WEIGHT, yields=False, min_rank=3),
        OpRule(
            ("matmul",), inputs=I8, float_after={"softmax": "weights stay float"}, yields=False, min_rank=3
        ),
        OpRule(("add",), kind="join", inputs=U8, fuses=ACTIVATIONS),
        OpRule(("cat",), kind="join", inputs=U8, share=True),
        OpRule(("max_pool2d", "reshape"), kind="follow", inputs=U8, share=True),
        OpRule(("adaptive_avg_pool2d",), kind="follow", inputs=U8),
    ),
    fixed_output={"sigmoid": (0.0, 1.0)},
)


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def quantized(model: nn.Module, config: QuantConfig | None = None) -> tuple[Program, Program]:
    torch.manual_seed(0)
    program = run_pipeline(capture(model.eval(), (images(1),)), optimize())
    annotated = run_pipeline(program, (Annotate(SCHEME, config or QuantConfig()),))
    statistics = calibrate(annotated, [images()])
    return program, run_pipeline(annotated, (InsertQDQ(statistics=statistics),))


def quantized_tensors(program: Program) -> set[str]:
    sources = [n.args[0] for n in program.graph.nodes if n.target is QUANTIZE_TENSOR]
    return {"x" if source.op == "placeholder" else label_of(source) for source in sources}


def node(program: Program, label: str) -> torch.fx.Node:
    return next(n for n in program.graph.nodes if label_of(n) == label)


def conv(cin: int, cout: int, **kw: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 3, padding=1, **kw)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = conv(3, 8), conv(8, 8)
        self.head = conv(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.conv(x) + x))


def test_nothing_between_conv_and_relu() -> None:
    _, program = quantized(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4)))
    assert quantized_tensors(program) == {"x", "1"}
    assert node(program, "1").args[0] is node(program, "0")


def test_weight_and_bias_are_integers_behind_a_dequantize() -> None:
    _, program = quantized(nn.Sequential(conv(3, 8)))
    call = node(program, "0")
    weight, bias = call.args[1], call.args[2]
    assert weight.target in DEQUANTIZE
    codes = program.tensor(str(weight.args[0].target))
    assert codes.dtype == torch.int8
    bias_codes, bias_scale = (program.tensor(str(a.target)) for a in bias.args[:2])
    weight_scale = program.tensor(str(weight.args[1].target))
    assert bias_codes.dtype == torch.int32
    input_scale = call.args[0].args[1]
    torch.testing.assert_close(bias_scale, weight_scale * torch.tensor(input_scale), rtol=0, atol=0)


def test_residual_add_reads_integers_on_both_sides() -> None:
    _, program = quantized(Residual())
    add = next(n for n in program.graph.nodes if op_name(n) == "add")
    assert all(a.target is DEQUANTIZE_TENSOR for a in add.args[:2])
    assert quantized_tensors(program) == {"x", "relu", "conv", "relu_1"}


def test_residual_add_of_float_tensors_stays_float() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(3, 3), nn.LayerNorm(8)
            self.head = conv(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.conv(x)) + x)

    _, program = quantized(Net())
    add = next(n for n in program.graph.nodes if op_name(n) == "add")
    assert not any(a.target is DEQUANTIZE_TENSOR for a in add.args[:2] if op_name(a) == "layer_norm")
    reasons = [n.text for n in program.notes if n.kind == "float" and n.layer == label_of(add)]
    assert reasons == ["its operand norm comes out of a float operator"]


def test_max_pool_and_reshape_carry_one_scale() -> None:
    _, program = quantized(nn.Sequential(conv(3, 4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)))
    codes = [n for n in program.graph.nodes if n.target is QUANTIZE_TENSOR]
    pairs = {n.args[1:3] for n in codes if n.args[0].op != "placeholder"}
    assert len(pairs) == 1
    assert quantized_tensors(program) == {"x", "0", "1", "2"}


def test_pool_whose_input_is_also_read_in_float_stays_float() -> None:
    class SqueezeExcite(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc, self.head = conv(3, 8), nn.Conv2d(8, 8, 1), conv(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.nn.functional.silu(self.conv(x))
            gate = torch.sigmoid(self.fc(torch.nn.functional.adaptive_avg_pool2d(x, 1)))
            return self.head(x * gate)

    _, program = quantized(SqueezeExcite())
    assert quantized_tensors(program) == {"x", "adaptive_avg_pool2d", "mul"}
    layers = {n.layer: n.text for n in program.notes if n.kind == "float"}
    assert layers["adaptive_avg_pool2d"] == "mul needs the same tensor in float"


class Branches(nn.Module):
    """Two branches that meet in a concat; the second one's range is ``factor`` times the first one's."""

    def __init__(self, factor: float, tail: bool = True) -> None:
        super().__init__()
        self.a, self.b = conv(3, 4), conv(3, 4)
        self.head = conv(8, 4) if tail else nn.Identity()
        with torch.no_grad():
            self.b.weight.copy_(self.a.weight * factor)
            self.b.bias.copy_(self.a.bias * factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.a(x), self.b(x)], 1))


def test_concat_of_similar_ranges_shares_one_scale() -> None:
    _, program = quantized(Branches(2.0))
    cat = next(n for n in program.graph.nodes if op_name(n) == "cat")
    scales = {a.args[1] for a in cat.args[0]} | {next(iter(cat.users)).args[1]}
    assert len(scales) == 1


def test_concat_of_ranges_far_apart_keeps_its_scales_and_says_so() -> None:
    _, program = quantized(Branches(16.0))
    cat = next(n for n in program.graph.nodes if op_name(n) == "cat")
    assert len({a.args[1] for a in cat.args[0]}) == 2
    assert any("ranges differ by 16" in n.text for n in program.notes)


def test_concat_that_nobody_reads_as_integers_stays_float() -> None:
    _, program = quantized(Branches(2.0, tail=False))
    assert quantized_tensors(program) == {"x"}


def test_users_own_say() -> None:
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 4))
    _, program = quantized(model, QuantConfig(keep_float=("2",)))
    call = node(program, "2")
    assert call.args[1].op == "get_attr"
    assert {n.layer: n.text for n in program.notes if n.kind == "float"}["2"] == "kept in float by the user"
    assert node(program, "4").args[1].target in DEQUANTIZE


def test_observer_override_reaches_the_scale_of_that_layer_only() -> None:
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 4))
    _, plain = quantized(model)
    layer = LayerConfig(observer="percentile", percentile=90.0)
    _, tuned = quantized(model, QuantConfig(layers={"1": layer}))
    scale = {label_of(n): n.args[1] for n in plain.graph.nodes if n.target is QUANTIZE_TENSOR}
    other = {label_of(n): n.args[1] for n in tuned.graph.nodes if n.target is QUANTIZE_TENSOR}
    assert other["1.quantize"] < 0.8 * scale["1.quantize"]
    assert {k for k in scale if scale[k] != other[k]} == {"1.quantize"}


def test_pattern_that_matches_nothing_is_refused_with_near_names() -> None:
    with pytest.raises(UsageError, match="no layer matches 'stm'") as error:
        quantized(Residual(), QuantConfig(keep_float=("stm",)))
    assert "stem" in str(error.value)


def test_dead_channel_and_constant_activation_give_finite_scales() -> None:
    model = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 4))
    with torch.no_grad():
        model[0].weight[1].zero_()
        model[0].bias[1] = 0.0
        model[2].weight.zero_()
    reference, program = quantized(model)
    got = program.run_flat(images())[0]
    assert bool(torch.isfinite(got).all())
    torch.testing.assert_close(got, reference.run_flat(images())[0], rtol=1e-3, atol=1e-3)


def test_nan_in_the_data_is_refused_with_its_place() -> None:
    program = run_pipeline(capture(Residual().eval(), (images(1),)), (*optimize(), Annotate(SCHEME)))
    bad = images(1)
    bad[0, 0, 0, 0] = float("nan")
    with pytest.raises(CalibrationError, match="NaN") as error:
        calibrate(program, [images(1), bad])
    assert "batch 1" in str(error.value)


@pytest.mark.parametrize(
    "data", [[], [torch.zeros(1, 4, 8, 8)], [torch.zeros(1, 3, 8, 8, dtype=torch.float64)]]
)
def test_bad_data_is_refused(data: list[torch.Tensor]) -> None:
    program = run_pipeline(capture(Residual().eval(), (images(1),)), (*optimize(), Annotate(SCHEME)))
    with pytest.raises(CalibrationError):
        calibrate(program, data)


def test_batching_does_not_change_the_ranges() -> None:
    program = run_pipeline(capture(Residual().eval(), (images(1),)), (*optimize(), Annotate(SCHEME)))
    whole = calibrate(program, [images(11)])
    single = calibrate(program, images(11).split(1))
    assert whole.images == single.images == 11
    for name, stats in whole.tensors.items():
        assert stats.low == pytest.approx(single.tensors[name].low, rel=1e-5)
        assert stats.high == pytest.approx(single.tensors[name].high, rel=1e-5)


def test_accuracy_is_that_of_eight_bits() -> None:
    reference, program = quantized(Residual())
    noise = sqnr_db(reference.run_flat(images())[0], program.run_flat(images())[0])
    assert noise is not None
    assert noise > 30


def test_annotating_changes_no_number_and_leaves_the_input_alone() -> None:
    program = run_pipeline(capture(Residual().eval(), (images(1),)), optimize())
    before = structural_hash(program)
    annotated = run_pipeline(program, (Annotate(SCHEME),))
    assert structural_hash(program) == before == structural_hash(annotated)
    assert not any("fxc_quant" in n.meta for n in program.graph.nodes)


def test_shared_weight_is_quantized_for_each_reader() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(torch.relu(self.conv(x)))

    reference, program = quantized(Shared())
    noise = sqnr_db(reference.run_flat(images())[0], program.run_flat(images())[0])
    assert noise is not None
    assert noise > 25


def test_no_codes_are_spent_on_values_that_hardswish_makes_zero() -> None:
    scheme = QuantScheme(
        "always", rules=(OpRule(("conv2d",), inputs=U8, weight=I8_WEIGHT, bias="int32", output=U8),)
    )
    model = nn.Sequential(conv(3, 8), nn.Hardswish())
    with torch.no_grad():
        model[0].weight.mul_(20)
    program = run_pipeline(capture(model.eval(), (images(1),)), optimize())
    annotated = run_pipeline(program, (Annotate(scheme),))
    statistics = calibrate(annotated, [images()])
    coded = run_pipeline(annotated, (InsertQDQ(statistics=statistics),))
    quantize = next(
        n for n in coded.graph.nodes if n.target is QUANTIZE_TENSOR and label_of(n.args[0]) == "0"
    )
    assert statistics.tensors[quantize.args[0].name].low < -10
    assert -quantize.args[2] * quantize.args[1] == pytest.approx(-3.0, abs=quantize.args[1])


def test_a_relu_keeps_its_zero_at_the_lowest_code_where_the_runtime_needs_it() -> None:
    class Mixed(Branches):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([torch.relu(self.a(x)), self.b(x)], 1))

    program = run_pipeline(capture(Mixed(1.0).eval(), (images(1),)), (*optimize(), Annotate(SCHEME)))
    statistics = calibrate(program, [images()])
    zero_points = {}
    for mix_signs in (True, False):
        coded = run_pipeline(program, (InsertQDQ(mix_signs=mix_signs, statistics=statistics),))
        relu = next(
            n for n in coded.graph.nodes if n.target is QUANTIZE_TENSOR and label_of(n.args[0]) == "relu"
        )
        zero_points[mix_signs] = relu.args[2]
    assert zero_points[True] > 0
    assert zero_points[False] == 0


class Attends(nn.Module):
    """Attention of pixels by hand; the values come out of an integer layer, the queries and keys too."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = conv(3, 8), conv(3, 8), conv(3, 8)
        self.table = nn.Parameter(torch.randn(1, 8, 5))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q, k, v = (layer(x).flatten(2).mT for layer in (self.query, self.key, self.value))
        scores = q @ k.mT
        weights = torch.where(scores > 0, scores.softmax(-1), 0.0)
        return weights @ v, q @ self.table


def test_a_product_codes_its_operands_its_own_way_and_none_that_a_softmax_made() -> None:
    _, program = quantized(Attends())
    scores, mixed, looked_up = (n for n in program.graph.nodes if op_name(n) == "matmul")
    specs = [a.args[0].args[1:] for a in scores.args]
    assert [(zero, low, high) for _, zero, low, high, _ in specs] == [(0, -128, 127)] * 2
    for product in (mixed, looked_up):
        assert not any(a.target is DEQUANTIZE_TENSOR for a in product.args)
    reasons = {n.layer: n.text for n in program.notes if n.kind == "float"}
    assert reasons[label_of(mixed)] == "weights stay float"
    assert "constant" in reasons[label_of(looked_up)]


def test_attention_that_the_user_keeps_in_float() -> None:
    _, program = quantized(Attends(), QuantConfig(keep_float=("matmul",)))
    assert all(
        a.target is not DEQUANTIZE_TENSOR
        for n in program.graph.nodes
        if op_name(n) == "matmul"
        for a in n.args
    )


class TwoReaders(nn.Module):
    """A tensor that a convolution reads as uint8 and a linear layer as int8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x.tanh()
        return self.conv(y), self.linear(y)


def test_two_codes_of_one_tensor_have_labels_of_their_own() -> None:
    _, program = quantized(TwoReaders())
    codes = {label_of(n): n.args[5] for n in program.graph.nodes if n.target is QUANTIZE_TENSOR}
    assert {dtype for label, dtype in codes.items() if label.startswith("tanh.quantize")} == {
        torch.uint8,
        torch.int8,
    }
    made = [label_of(n) for n in program.graph.nodes if n.op == "call_function"]
    assert len(made) == len(set(made))
