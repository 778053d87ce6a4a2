"""The hard variants: the same function, which min/max eight-bit codes lose and equalization brings back."""

from __future__ import annotations

import copy

import pytest
import torch

from fxc.backends.openvino.target import SCHEME
from fxc.compiler.capture import capture
from fxc.compiler.pipeline import run_pipeline
from fxc.compiler.program import Program
from fxc.passes.pipelines import optimize
from fxc.passes.quantize.annotate import Annotate
from fxc.passes.quantize.calibrate import calibrate
from fxc.passes.quantize.equalize import Equalize
from fxc.passes.quantize.insert import InsertQDQ
from fxc.passes.quantize.probe import probe
from tests.models import hard, zoo
from tests.models.metrics import rel_l2, sqnr_db

RESOLUTION = 64


@pytest.mark.parametrize("name", hard.NAMES)
def test_hardening_keeps_the_function(name: str) -> None:
    model, _ = zoo.build(name, resolution=RESOLUTION)
    x = hard.images(1, RESOLUTION)
    with torch.no_grad():
        single = model(x)
        hardened = hard.harden(copy.deepcopy(model))(x)
        before = model.double()(x.double())
        after = hard.harden(model)(x.double())
    assert rel_l2(after, before) < 1e-10
    assert rel_l2(hardened, single) < 1e-4


def test_hardening_is_seeded_and_changes_the_parameters() -> None:
    one, two = (hard.build("mobilenet_v3_small", resolution=RESOLUTION)[0].state_dict() for _ in range(2))
    plain = zoo.build("mobilenet_v3_small", resolution=RESOLUTION)[0].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sum(not torch.equal(one[name], plain[name]) for name in one) > 20


def test_a_model_without_places_to_harden_is_refused() -> None:
    with pytest.raises(AssertionError, match="nothing in this model"):
        hard.harden(torch.nn.Sequential(torch.nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="no hard variant of 'yolo'"):
        hard.build("yolo")


def quantized_db(program: Program, calibration: torch.Tensor, x: torch.Tensor, want: torch.Tensor) -> float:
    annotated = run_pipeline(program, (Annotate(SCHEME),))
    insert = InsertQDQ(SCHEME.share_ratio, SCHEME.mix_signs, calibrate(annotated, [calibration]))
    return sqnr_db(want, run_pipeline(annotated, (insert,)).run_flat(x)[0])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_min_max_loses_a_hard_model_and_equalization_brings_it_back(name: str) -> None:
    model, x = hard.build(name, resolution=RESOLUTION)
    calibration, held_out = hard.images(8, RESOLUTION, seed=1), hard.images(4, RESOLUTION, seed=2)
    with torch.no_grad():
        want = model(held_out)
    program = run_pipeline(capture(model, (x,)), optimize())
    equal = run_pipeline(program, (Equalize(probed=probe(program, (calibration[:4],))),))
    assert rel_l2(equal.run_flat(held_out)[0], want) < 1e-4
    lost = quantized_db(program, calibration, held_out, want)
    kept = quantized_db(equal, calibration, held_out, want)
    assert lost < 5.0
    assert kept > lost + 6.0


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_plain_model_is_left_alone(name: str) -> None:
    model, x = zoo.build(name, resolution=RESOLUTION)
    program = run_pipeline(capture(model, (x,)), optimize())
    assert not Equalize(probed=probe(program, (x,))).apply(program).modified
