"""A latency budget on a model of a device: by hand, met by what is cut, refused where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc import catalogue
from fxc.compiler.errors import UsageError
from fxc.compiler.target import Speed
from fxc.passes.prune.cost import Costs, Device, latency_of
from fxc.passes.prune.cut import cut_program
from fxc.passes.prune.groups import structure_of
from fxc.passes.prune.prune_channels import milliseconds
from fxc.pruning import prune_word
from tests.passes.prune.cases import canonical_program, random_keep
from tests.passes.prune.nets import NETS, build, conv
from tests.zoo.prune_one import total

BOUND_BY_WORK = Device("d", Speed(macs=1e9, bandwidth=1e15, bytes_each=1, source="none"))
BOUND_BY_MEMORY = Device("d", Speed(macs=1e18, bandwidth=1e9, bytes_each=2, source="none"))


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 96), conv(96, 96), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))
    return model.eval(), torch.randn(1, 3, 16, 16)


def test_time_is_work_where_memory_is_free(net: tuple[nn.Module, Tensor]) -> None:
    program = canonical_program(*net)
    assert latency_of(program, BOUND_BY_WORK) == pytest.approx(total(program) / 1e9, rel=1e-6)


def test_channels_are_filled_up() -> None:
    """33 channels cost what 64 do, an image's three what three do."""
    model = nn.Sequential(
        nn.Conv2d(3, 33, 1), nn.Conv2d(33, 33, 3, padding=1, groups=33), nn.Conv2d(33, 40, 1)
    )
    program = canonical_program(model, torch.randn(1, 3, 8, 8))
    found = latency_of(program, replace(BOUND_BY_WORK, multiple=32))
    assert found == pytest.approx(64 * (3 * 64 + 9 * 64 + 64 * 64) / 1e9, rel=1e-6)


def test_time_is_bytes_where_work_is_free() -> None:
    """Batch norm and relu are part of the convolution, a view is nothing; an addition reads two values and writes one."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.bn(self.conv(x)).relu()
            return (y + y.flip(1)).flatten(1)

    program = canonical_program(Net(), torch.randn(1, 4, 5, 5))
    convolution, flip, addition = 4 * 25 + 8 * 4 + 8 + 8 * 25, 2 * 8 * 25, 3 * 8 * 25
    assert latency_of(program, BOUND_BY_MEMORY) == pytest.approx(2 * (convolution + flip + addition) / 1e9)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("device", [BOUND_BY_WORK, BOUND_BY_MEMORY])
def test_the_estimate_before_the_cut_is_that_after_it(name: str, device: Device) -> None:
    structure = structure_of(canonical_program(*build(name)))
    keep = random_keep(structure, 0.5)
    cut = cut_program(structure, keep, "test")
    assert Costs(structure, device).latency(keep) == pytest.approx(latency_of(cut, device))


@pytest.mark.parametrize("latency", [0.9, 0.6, 0.3, "0.004ms"])
@pytest.mark.parametrize("ranking", ["local", "global"])
def test_a_budget_is_met(net: tuple[nn.Module, Tensor], latency: Any, ranking: str) -> None:
    pruned = fxc.prune(
        net[0], example_inputs=net[1], target="rk3588-int8", latency=latency, ranking=ranking, align=1
    )
    before, after = pruned.report["latency"]["milliseconds"]
    most = milliseconds(latency) if isinstance(latency, str) else latency * before
    assert after <= most * (1 + 1e-9)
    target = catalogue.target("rk3588-int8")
    assert target.speed is not None
    device = Device(target.name, target.speed, 32)
    assert after == pytest.approx(1e3 * latency_of(pruned.program, device))
    assert "not measured" in pruned.report["latency"]["how"]


def test_as_much_stays_as_the_budget_allows(net: tuple[nn.Module, Tensor]) -> None:
    words: dict[str, Any] = {"example_inputs": net[1], "target": "rk3588-int8", "align": 1}
    pruned = fxc.prune(net[0], latency=0.6, **words)
    width = pruned.plan.groups[0].channels[1]
    more = fxc.prune(net[0], 1 - (width + 1) / 96, **words)
    assert more.plan.groups[0].channels[1] == width + 1
    before, after = more.report["latency"]["milliseconds"]
    assert after > 0.6 * before


def test_a_time_that_is_long_enough_changes_nothing(net: tuple[nn.Module, Tensor]) -> None:
    pruned = fxc.prune(net[0], example_inputs=net[1], target="rk3588-fp16", latency="900ms")
    assert all(group.channels[0] == group.channels[1] for group in pruned.plan.groups)


def test_steps_take_it_too(net: tuple[nn.Module, Tensor]) -> None:
    words: dict[str, Any] = {"example_inputs": net[1], "target": "rk3588-int8", "align": 1}
    for latency in (0.5, "0.004ms"):
        *_, last = fxc.prune_steps(net[0], steps=2, latency=latency, **words)
        once = fxc.prune(net[0], latency=latency, **words)
        assert [g.channels for g in last.plan.groups] == [g.channels for g in once.plan.groups]
        assert last.report["latency"]["milliseconds"] == pytest.approx(once.report["latency"]["milliseconds"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"target": "jetson-int8", "latency": 0.5}, "the speed of jetson-int8 is not known"),
        ({"target": "jetson-int8", "latency": 0.5}, "one of rk3588-int8"),
        ({"latency": 0.5}, "latency is of one target"),
        ({"target": ["rk3588-int8", "rk3588-fp16"], "latency": 0.5}, "latency is of one target"),
        ({"target": "rk3588-int8", "latency": 0}, "latency must lie in (0, 1]"),
        ({"target": "rk3588-int8", "latency": 1.5}, "latency must lie in (0, 1]"),
        ({"target": "rk3588-int8", "latency": float("nan")}, "latency must lie in (0, 1]"),
        ({"target": "rk3588-int8", "latency": True}, "latency must lie in (0, 1]"),
        ({"target": "rk3588-int8", "latency": "soon"}, "latency 'soon' cannot be read"),
        ({"target": "rk3588-int8", "latency": "-1ms"}, "latency '-1ms' cannot be read"),
        ({"target": "rk3588-int8", "latency": "0.00001ms"}, "cannot be reached: the least is"),
        ({"target": "rk3588-int8", "latency": 0.001}, "ms by the model"),
    ],
)
def test_what_cannot_be_is_said(net: tuple[nn.Module, Tensor], words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        fxc.prune(net[0], example_inputs=net[1], **words)
    assert said in str(caught.value)


def test_compile_takes_it_too() -> None:
    target = catalogue.target("rk3588-int8")
    step: Any = prune_word({"latency": 0.5}, [target], catalogue.INSTALLED)
    assert (step.latency, step.device.name, step.align) == (0.5, "rk3588-int8", 32)
    with pytest.raises(UsageError, match="prune takes no 'device'"):
        prune_word({"device": 3}, [target], catalogue.INSTALLED)


def test_a_pass_needs_a_device() -> None:
    with pytest.raises(UsageError, match="latency needs a target whose speed is known"):
        catalogue.pipeline("prune_channels{latency=0.5}")
