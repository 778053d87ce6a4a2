"""``fxc.prune``, ``fxc.prune_steps``, ``fxc.sparsify`` and ``fxc.compile(…, prune=…)``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc.compiler.errors import CalibrationError, UsageError
from fxc.compiler.pipeline import run_pipeline
from fxc.passes.pipelines import canonical
from fxc.passes.prune.recalibrate import recompute_batch_norm
from tests.models.metrics import rel_l2
from tests.passes.prune.nets import build, conv


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 32), conv(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))
    return model.eval(), torch.randn(1, 3, 16, 16)


def test_the_module_is_ordinary(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    pruned = fxc.prune(model, 0.5, example_inputs=(x,))
    module = pruned.module()
    assert {n for n, _ in module.named_parameters()} == {n for n, _ in model.named_parameters()}
    before = pruned.program(x)
    module.train()
    module(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None and p.requires_grad for p in module.parameters())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0.01 * parameter.grad)
    assert rel_l2(pruned.program(x), before) > 1e-5, "the program does not see what was trained"
    artifact = fxc.compile(pruned, "ort-fp32", verify=False)
    assert rel_l2(artifact(x), pruned.program(x)) < 1e-4
    assert rel_l2(artifact(x), module.eval()(x)) < 1e-4


def test_the_report_counts(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    report = fxc.prune(model, 0.5, example_inputs=(x,)).report
    pixels, weights = 16 * 16, 9
    assert report["macs"] == [
        pixels * weights * (3 * 32 + 32 * 32) + 32 * 4,
        pixels * weights * (3 * 16 + 16 * 16) + 16 * 4,
    ]
    assert [group["channels"] for group in report["groups"]] == [[32, 16], [32, 16]]
    assert report["fixed"] == {"4": ["4 is the model's output"]}


@pytest.mark.parametrize("curve", ["linear", "cubic"])
@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"macs": 0.3}, {"ratio": 0.5, "ranking": "global"}])
def test_steps_end_where_one_step_ends(
    net: tuple[nn.Module, Tensor], curve: str, options: dict[str, Any]
) -> None:
    model, x = net
    steps = list(fxc.prune_steps(model, steps=3, curve=curve, example_inputs=(x,), **options))
    widths = [[g.channels[1] for g in step.plan.groups] for step in steps]
    assert all(sum(a) > sum(b) for a, b in zip([[64], *widths], widths))
    once = fxc.prune(model, example_inputs=(x,), **options)
    assert abs(sum(widths[-1]) - sum(g.channels[1] for g in once.plan.groups)) <= 1
    replayed = fxc.prune(model, example_inputs=(x,), plan=steps[-1].plan)
    torch.testing.assert_close(replayed.program(x), steps[-1].program(x), rtol=0, atol=0)
    assert steps[-1].report["macs"][0] == once.report["macs"][0]


def test_a_step_starts_from_what_was_trained(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    steps = fxc.prune_steps(model, 0.5, steps=2, example_inputs=(x,))
    first = next(steps)
    with torch.no_grad():
        for parameter in first.module().parameters():
            parameter.fill_(0.5)
    second = next(steps)
    assert all((p == 0.5).all() for p in second.module().parameters())


def test_batch_norms_are_measured_again(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    data = [torch.randn(4, 3, 16, 16) * 2 + 1 for _ in range(3)]
    program = run_pipeline(fxc.capture(model, (x,)), canonical())
    found = recompute_batch_norm(program, iter(data))
    want = torch.optim.swa_utils.AveragedModel(model).module
    torch.optim.swa_utils.update_bn(data, want)
    for name in ("0.1.running_mean", "0.1.running_var", "1.1.running_mean", "1.1.running_var"):
        torch.testing.assert_close(found.tensor(name), want.get_buffer(name), rtol=1e-4, atol=1e-5)
        assert torch.equal(program.tensor(name), model.get_buffer(name))
    with pytest.raises(CalibrationError):
        recompute_batch_norm(program, [torch.randn(4, 1, 16, 16)])
    pruned = fxc.prune(model, example_inputs=(x,), calibration_data=data)
    assert float((pruned.program.tensor("0.1.running_mean")).abs().max()) > 0


@pytest.mark.parametrize("prune", [0.5, {"macs": 0.3, "align": 4}, {"ratio": 0.25, "protect": ["0.*"]}])
def test_compile_prunes_on_the_way(net: tuple[nn.Module, Tensor], prune: Any) -> None:
    model, x = net
    words = {"ratio": prune} if isinstance(prune, float) else prune
    want = fxc.prune(model, example_inputs=(x,), **words)
    artifact = fxc.compile(model, "ort-fp32", example_inputs=(x,), prune=prune)
    assert rel_l2(artifact(x), want.program(x)) < 1e-4
    assert "prune" in artifact.timings["stages"]
    replayed = fxc.compile(model, "ort-fp32", example_inputs=(x,), prune=want.plan)
    assert rel_l2(replayed(x), want.program(x)) < 1e-4


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (1.0, "ratio must lie"),
        ({"share": 0.5}, "no 'share'"),
        ([0.5], "takes a ratio"),
        (True, "takes a ratio"),
    ],
)
def test_compile_refuses(net: tuple[nn.Module, Tensor], given: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        fxc.compile(net[0], "ort-fp32", example_inputs=(net[1],), prune=given)


def test_the_target_says_the_multiple(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    free = fxc.prune(model, 0.4, example_inputs=(x,))
    fitted = fxc.prune(model, 0.4, example_inputs=(x,), target=["cpu-int8", "jetson-fp16"])
    assert [g.channels[1] for g in free.plan.groups] == [20, 20]
    assert [g.channels[1] for g in fitted.plan.groups] == [24, 24]


def test_a_pruned_model_is_pruned_again(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    first = fxc.prune(model, 0.5, example_inputs=(x,))
    second = fxc.prune(first, 0.5)
    both = fxc.prune(model, plan=first.plan.then(second.plan), example_inputs=(x,))
    torch.testing.assert_close(both.program(x), second.program(x), rtol=0, atol=0)


def test_sparsify(net: tuple[nn.Module, Tensor]) -> None:
    model, x = net
    sparse = fxc.sparsify(model, "2:4", example_inputs=(x,))
    assert set(sparse.density().values()) == {0.5}
    assert set(sparse.left) == {"0.0"}
    artifact = fxc.compile(sparse.finish(), "ort-fp32")
    assert rel_l2(artifact(x), sparse.program(x)) < 1e-4


def test_masks_from_the_face() -> None:
    model, x = build("chunk_concat")
    pruned = fxc.prune(model, 0.5, example_inputs=(x,))
    masked = pruned.masked()
    assert rel_l2(masked.program(x), pruned.program(x)) < 1e-5
    with torch.no_grad():
        assert rel_l2(masked.recover()(x), model(x)) < 1e-6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"layers": {3: 0.5}}, "layers takes a mapping from pattern to ratio"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"heads": "yes"}, "heads takes True or False"),
        ({"criterion": None}, "unknown criterion None"),
        ({"data": [torch.ones(1, 3, 16, 16)]}, "data and loss are not read by the criterion l2"),
        (
            {"criterion": "taylor", "data": [0], "loss": lambda model, batch: torch.ones(2)},
            "the loss is a tensor [2]",
        ),
        ({"criterion": "taylor", "data": [0], "loss": lambda model, batch: 3.0}, "does not depend"),
    ],
)
def test_words_that_cannot_be_are_said(
    net: tuple[nn.Module, Tensor], words: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        fxc.prune(net[0], example_inputs=(net[1],), **words)
    assert said in str(caught.value)


@pytest.mark.parametrize("data", [[], iter(()), 3])
def test_no_data_for_the_batch_norms(net: tuple[nn.Module, Tensor], data: Any) -> None:
    with pytest.raises(CalibrationError):
        fxc.prune(net[0], example_inputs=(net[1],), calibration_data=data)


def test_equal_scores_go_evenly(net: tuple[nn.Module, Tensor]) -> None:
    """A fresh model's norms all have a scale of one: half of the channels must not be all but one of every layer."""
    pruned = fxc.prune(net[0], 0.5, example_inputs=(net[1],), criterion="bn", ranking="global")
    assert [g.channels for g in pruned.plan.groups] == [(32, 16), (32, 16)]


def test_it_is_short_to_look_at(net: tuple[nn.Module, Tensor]) -> None:
    assert len(repr(fxc.prune(net[0], example_inputs=(net[1],)))) < 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"protect": ["nothing"]}, "no layer with weights matches 'nothing'"),
        ({"block": 3, "pattern": 0.5}, "block takes two positive integers, got 3"),
        ({"block": (2, "x"), "pattern": 0.5}, "block takes two positive integers"),
    ],
)
def test_sparsify_refuses(net: tuple[nn.Module, Tensor], words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        fxc.sparsify(net[0], example_inputs=(net[1],), **words)
    assert said in str(caught.value)
