"""Structures that once broke quantization: each test is the smallest net or tensor that showed it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fxc.backends.openvino.target import SCHEME as OPENVINO
from fxc.compiler.capture import capture
from fxc.compiler.config import LayerConfig, QuantConfig
from fxc.compiler.origin import label_of, op_name
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.compiler.qdq import DEQUANTIZE, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.compiler.quant import I8_WEIGHT, U8, QuantScheme, QuantSpec
from fxc.passes.pipelines import canonical, optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.observers import observe
from fxc.passes.quantize.statistics import BINS, Histogram, TensorStats
from fxc.passes.quantize.synthesize import synthesize
from fxc.passes.quantize.weights import quantize_weight, scale_floor
from fxc.proof import sqnr_db


def images(n: int = 4, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def annotated(
    model: nn.Module,
    *inputs: Tensor,
    config: QuantConfig | None = None,
    scheme: QuantScheme = OPENVINO,
    dynamic_batch: bool | None = None,
) -> Program:
    program = run_pipeline(capture(model.eval(), inputs, dynamic_batch=dynamic_batch), optimize())
    return run_pipeline(program, (Annotate(scheme, config or QuantConfig()),))


def quantized(model: nn.Module, *inputs: Tensor, config: QuantConfig | None = None) -> Program:
    program = annotated(model, *inputs, config=config)
    return run_pipeline(program, (InsertQDQ(statistics=calibrate(program, [inputs])),))


def calls(program: Program, op: str) -> list[torch.fx.Node]:
    return [n for n in program.graph.nodes if op_name(n) == op]


def assert_eight_bits(model: nn.Module, program: Program, *inputs: Tensor) -> None:
    with torch.no_grad():
        want = model(*inputs)
    noise = sqnr_db(want, program.run_flat(*inputs)[0])
    assert noise is not None
    assert noise > 25


class AfterNorm(nn.Module):
    """A reshape and a concat of what a layer norm computes in float."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv, self.head = nn.LayerNorm(8), nn.Conv2d(6, 3, 1), nn.Linear(192, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(torch.cat([self.norm(x), x], 1)).mul(2).flatten(1))


@pytest.mark.parametrize("pattern", ["cat", "flatten", "*"])
def test_a_layer_kept_in_float_may_read_a_float_tensor(pattern: str) -> None:
    model, x = AfterNorm(), images()
    program = quantized(model, x, config=QuantConfig(keep_float=(pattern,)))
    assert_eight_bits(model, program, x)
    cat = calls(program, "cat")[0]
    assert not any(source.target is DEQUANTIZE_TENSOR for source in cat.all_input_nodes[:1])
    kept = {n.layer for n in program.notes if n.text == "kept in float by the user"}
    assert (pattern if pattern != "*" else "conv") in kept


def test_an_input_that_is_returned_comes_back_exactly() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, self.conv(x)

    program = quantized(Net(), images())
    assert torch.equal(program.run_flat(images())[0], images())
    assert calls(program, "conv2d")[0].args[0].target is DEQUANTIZE_TENSOR


def test_a_symbolic_size_among_the_arguments_is_no_tensor_to_observe() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)[x.shape[0] - 1 :])

    model, x = Last(), images()
    program = annotated(model, x, dynamic_batch=True)
    assert any(not isinstance(i, int) for i in calls(program, "slice")[0].args)
    program = run_pipeline(program, (InsertQDQ(statistics=calibrate(program, [x])),))
    assert_eight_bits(model, program, x)
    assert calls(program, "slice")[0].args[0].target is DEQUANTIZE_TENSOR


class Chained(nn.Module):
    """cat(cat(a, b), c) where b spans ``factor`` times a, and c ``factor`` times b."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 1) for _ in range(3))
        self.mid, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(12, 4, 1)
        with torch.no_grad():
            for layer, scale in ((self.b, factor), (self.c, factor**2)):
                layer.weight.copy_(self.a.weight * scale)
                layer.bias.copy_(self.a.bias * scale)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.cat([self.a(x), self.b(x)], 1)
        return self.mid(first) + self.head(torch.cat([first, self.c(x)], 1))


def test_concats_in_a_row_do_not_wear_a_small_range_down() -> None:
    program = quantized(Chained(3.0), images())
    first, second = calls(program, "cat")
    assert len({source.args[1] for source in first.args[0]}) == 1
    assert len({source.args[1] for source in second.args[0]}) == 2
    assert any("ranges differ by 9" in n.text for n in program.notes)


def test_a_branch_of_zeros_shares_the_scale_of_the_others() -> None:
    model = Chained(1.5)
    with torch.no_grad():
        model.b.weight.zero_()
        model.b.bias.zero_()
    program = quantized(model, images())
    assert len({source.args[1] for cat in calls(program, "cat") for source in cat.args[0]}) == 1


def test_inserting_leaves_the_annotated_program_as_it_was() -> None:
    program = annotated(Chained(1.5), images())
    wide, narrow = calibrate(program, [images() * 10]), calibrate(program, [images()])
    scales = []
    for statistics in (narrow, wide, narrow):
        done = run_pipeline(program, (InsertQDQ(statistics=statistics),))
        scales.append([n.args[1] for n in done.graph.nodes if n.target is QUANTIZE_TENSOR])
    assert scales[0] == scales[2] != scales[1]


def test_openvino_keeps_a_linear_over_one_vector_in_float() -> None:
    program = quantized(nn.Sequential(nn.Linear(8, 4)), torch.randn(8))
    assert calls(program, "linear")[0].args[1].target not in DEQUANTIZE
    batched = quantized(nn.Sequential(nn.Linear(8, 4)), torch.randn(3, 8))
    assert calls(batched, "linear")[0].args[1].target in DEQUANTIZE


def test_scales_stay_powers_of_two_where_a_bias_asks_for_larger_ones() -> None:
    spec = I8_WEIGHT.but(scale_kind="pow2")
    weight = torch.tensor([[1e-7, 0.0], [0.5, 0.1], [0.0, 0.0]])
    floor = scale_floor(torch.tensor([7.0, 1.0, 3.0]), input_scale=1e-2)
    assert floor is not None
    scales = quantize_weight(weight, spec, floor).scales
    assert all(math.log2(scale).is_integer() for scale in scales.tolist())
    assert bool((scales >= floor).all())


def test_a_fixed_range_does_not_break_a_power_of_two_scale() -> None:
    pow2 = QuantSpec(scale_kind="pow2")
    rules = tuple(
        rule if rule.inputs != U8 else type(rule)(**{**vars(rule), "inputs": pow2}) for rule in OPENVINO.rules
    )
    scheme = QuantScheme("pow2", rules=rules, fixed_output=OPENVINO.fixed_output)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1))
    program = annotated(model, images(), scheme=scheme)
    program = run_pipeline(program, (InsertQDQ(statistics=calibrate(program, [images()])),))
    for node in (n for n in program.graph.nodes if n.target is QUANTIZE_TENSOR):
        assert math.log2(float(node.args[1])).is_integer(), label_of(node)


def test_a_percentile_wins_over_an_observer_from_a_wider_place() -> None:
    one = QuantConfig(observer="mse", layers={"head": LayerConfig(percentile=99.0)})
    assert one.for_layer(("head",)).observer == "percentile"
    assert one.for_layer(("stem",)).observer == "mse"
    merged = QuantConfig(observer="mse").merged(QuantConfig(percentile=99.0))
    assert (merged.observer, merged.percentile) == ("percentile", 99.0)
    other = QuantConfig(percentile=99.0, layers={"head": LayerConfig(observer="mse")})
    assert other.for_layer(("head",)).observer == "mse"


def test_histogram_of_the_largest_floats() -> None:
    x = torch.linspace(-1.0, 1.0, 10_001) * 3e38
    stats = TensorStats()
    stats.update(x, histogram=True)
    low, high = observe(stats, U8.but(observer="percentile", percentile=90.0))
    assert low == pytest.approx(-2.4e38, rel=0.01)
    assert high == pytest.approx(2.4e38, rel=0.01)


def test_merging_histograms_of_tiny_values_keeps_their_ranges_apart() -> None:
    small, smaller = torch.full((5,), 1e-9), torch.full((7,), 1e-12)
    merged = Histogram.of(small, 1e-9).merged(Histogram.of(smaller, 1e-12))
    centres = merged.centres()
    width = 2 * merged.limit / BINS
    assert merged.counts.sum() == 12
    assert merged.counts[abs(centres - 1e-9) <= width].sum() == 5
    assert merged.counts[abs(centres - 1e-12) <= width].sum() == 7


class Pair(nn.Module):
    """An image that a batch norm sees, beside an input that none sees: a vector, or the lengths of another axis."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.vector = nn.Linear(6, 4)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.image(x), self.vector(v)


def test_synthesis_leaves_an_input_that_no_norm_sees() -> None:
    program = run_pipeline(capture(Pair().eval(), (images(2), torch.randn(2, 6))), canonical())
    (batch,), said = synthesize(program, images=5)
    assert [x.shape[0] for x in batch] == [5, 5]
    assert not any(x.requires_grad for x in batch)
    assert "match the statistics of 1 batch norm" in said


def test_synthesis_where_the_norms_see_integers_only() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.norm, self.vector = nn.Embedding(9, 4), nn.BatchNorm1d(4), nn.Linear(6, 4)

        def forward(self, i: Tensor, v: Tensor) -> Tensor:
            return self.norm(self.words(i).mean(1)) + self.vector(v)

    inputs = torch.randint(0, 9, (2, 5)), torch.randn(2, 6)
    program = run_pipeline(capture(Words().eval(), inputs), canonical())
    batches, said = synthesize(program)
    assert "seeded images" in said
    assert "synthesised" not in said
    program.run_flat(*batches[0])


def test_synthesis_with_a_fixed_batch_of_one_makes_several_calls_that_vary() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    with torch.no_grad():
        model[1].running_mean.fill_(2.0)
        model[1].running_var.fill_(9.0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    program = run_pipeline(capture(model.eval(), (torch.zeros(1, 6),), dynamic_batch=False), canonical())
    generator = torch.get_rng_state()
    start, _ = synthesize(program, images=8, steps=0)
    done, _ = synthesize(program, images=8, steps=60)
    assert [tuple(x.shape) for (x,) in done] == [(1, 6)] * 8

    def distance(batches: list[tuple[Tensor, ...]]) -> float:
        with torch.no_grad():
            seen = model[0](torch.cat([x for (x,) in batches]))
        return float((seen.mean(0) - 2.0).abs().mean() + (seen.std(0) - 3.0).abs().mean())

    assert distance(done) < 0.5 * distance(start)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_samples_are_counted_along_the_free_axis() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, scale: Tensor, x: Tensor) -> Tensor:
            return self.conv(x * scale)

    half, one = torch.tensor(0.5), torch.tensor(1.0)
    program = annotated(Scaled(), half, images(2))
    assert [spec.shape[:1] for spec in program.tensor_inputs] == [(), ("batch",)]
    assert calibrate(program, [(half, images(3)), (one, images(2))]).images == 5
