"""No codes for values that a tensor's readers cannot tell apart."""

import math

import pytest
import torch

import fxc
from fxc.compiler.origin import op_name
from fxc.passes.quantize.useful import useful_ranges
from tests.passes.checks import Fn, canonical

X = torch.randn(2, 4, 6, 6)
BOTH = (-math.inf, math.inf)


def of_the_input(function: object) -> tuple[float, float]:
    program = canonical(Fn(function), X)  # type: ignore[arg-type]
    image = next(n for n in program.graph.nodes if n.op == "placeholder")
    return useful_ranges(program.graph)[image]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda m, x: x.relu(), (0.0, math.inf)),
        (lambda m, x: torch.nn.functional.hardswish(x), (-3.0, math.inf)),
        (lambda m, x: x.sigmoid(), (-8.0, 8.0)),
        (lambda m, x: x.relu() + x.sigmoid(), (-8.0, math.inf)),
        (lambda m, x: x.sigmoid() + x, BOTH),
        (lambda m, x: (x, x.sigmoid()), BOTH),
        (lambda m, x: x.flatten(2).transpose(1, 2).sigmoid(), (-8.0, 8.0)),
        (lambda m, x: torch.cat([x, x], 1).sigmoid(), (-8.0, 8.0)),
        (lambda m, x: torch.nn.functional.max_pool2d(x, 2)[:, :2].sigmoid(), (-8.0, 8.0)),
        (lambda m, x: torch.cat([x[:, :1].exp(), x[:, 1:].sigmoid()], 1), BOTH),
        (lambda m, x: torch.nn.functional.avg_pool2d(x, 2).sigmoid(), BOTH),
    ],
    ids=["relu", "hardswish", "sigmoid", "two", "read as it is", "an output", "moved", "joined", "cut", "one part", "mean"],
)  # fmt: skip
def test_the_range_that_readers_tell_apart(function: object, wanted: tuple[float, float]) -> None:
    assert of_the_input(function) == wanted


def test_what_lies_outside_of_a_sigmoids_range_is_less_than_a_quarter_of_a_code() -> None:
    beyond = torch.tensor([-8.0, 8.0], dtype=torch.double).sigmoid()
    assert float((beyond - torch.tensor([0.0, 1.0])).abs().max()) < 0.25 / 255


def test_codes_are_not_spent_on_logits_far_from_the_middle() -> None:
    conv = torch.nn.Conv2d(4, 8, 1)
    model = Fn(lambda m, x: m.conv(x).flatten(2).sigmoid(), conv=conv).eval()
    data = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        conv.weight.mul_(2 / conv(data).std())
    wide = data.clone()
    wide[:, :, 0, 0] *= 20
    made = fxc.compile(model, "rk3588-int8", example_inputs=(data[:1],), calibration_data=wide, verify=False)
    quantize = next(
        n for n in made.program.graph.nodes if op_name(n) == "quantize" and n.args[0].name == "conv"
    )
    assert float(quantize.args[1]) <= 16 / 255 + 1e-6
