"""The main flow: each small net for each target, compiled, called, saved, loaded and called again."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import fxc
from tests.e2e.nets import built, compiled, same, sqnr
from tests.models.small import SMALL, small_inputs

FLOOR_DB = {"int8": 15.0, "fp32": 100.0, "bf16": 35.0}
"""int8 clips what eight calibration samples did not show; bf16 keeps 8 bits of a mantissa; fp32 differs by rounding."""

WORDS = {
    "format", "model", "target", "passes", "notes", "calibration", "layers", "float_tensors", "accuracy", "kernels",
    "size", "tools",
}  # fmt: skip


FLOAT = ("cpu-fp32", "ort-fp32", "cpu-bf16")
FLOWS = [(name, target) for name in SMALL for target in ("cpu-int8", "ort-int8")]
FLOWS += [
    (name, target) for name in ("residual", "transformer", "multi_io", "linear_bn1d") for target in FLOAT
]


@pytest.mark.parametrize(("name", "target"), FLOWS)
def test_the_main_flow(name: str, target: str, tmp_path: Path) -> None:
    model, _ = built(name)
    artifact = compiled(name, target)
    unseen = small_inputs(name, 3, 999)
    with torch.no_grad():
        wanted = model(*unseen)
    answer = artifact(*unseen)
    assert pytree.tree_structure(answer) == pytree.tree_structure(wanted)
    assert sqnr(wanted, answer) > FLOOR_DB[artifact.target.precision]
    if artifact.target.precision == "int8":
        # Also on data that calibration did not see; a file that fuses more than the graph says may be better.
        assert sqnr(wanted, artifact.program(*unseen)) - sqnr(wanted, answer) < 1.0

    saved = artifact.save(tmp_path / "bundle")
    loaded = fxc.load(saved)
    assert same(loaded(*unseen), answer)
    assert loaded.report == artifact.report
    assert loaded.manifest == artifact.manifest
    check_report(loaded.report, name, target)
    assert (saved / "report.html").read_text().startswith("<!")


def check_report(report: dict[str, Any], name: str, target: str) -> None:
    """What must hold of the report of every small net."""
    model, _ = built(name)
    assert set(report) == WORDS
    assert report["target"]["name"] == target
    assert report["model"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert [n["text"] for n in report["notes"] if n["kind"] == "warning"] == []
    for row in report["accuracy"]["outputs"]:
        assert row["file_db"] > FLOOR_DB[report["target"]["precision"]] - 5
        if report["target"]["precision"] != "bf16":
            assert row["lost_db"] <= 1.0, "the file must be as good as the graph that it was made from"
    if report["target"]["precision"] == "int8":
        assert report["calibration"]["images"] == 8
        assert any(row["quantized"] for row in report["layers"])
        reasons = [row["reason"] for row in report["layers"] if not row["quantized"]]
        assert all(reasons), "every layer left in float has its reason"
    else:
        assert report["calibration"] is None
        assert report["kernels"]["integer"] == 0
        assert report["float_tensors"] == []


@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8"])
@pytest.mark.parametrize("name", ["conv_chain", "residual", "depthwise_relu6", "unet"])
def test_every_multiplication_of_a_conv_net_runs_on_integers(name: str, target: str) -> None:
    kernels = compiled(name, target).report["kernels"]
    assert kernels["mac_coverage"] == 1.0
    assert not kernels["planned"]
    assert kernels["float"] == 0
    model, _ = built(name)
    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert kernels["integer"] == len(layers)


@pytest.mark.parametrize("target", ["cpu-int8", "ort-fp32"])
def test_any_batch_size(target: str) -> None:
    artifact = compiled("residual", target)
    model, _ = built("residual")
    one_by_one = small_inputs("residual", 5, 7)[0]
    together = artifact(one_by_one)
    for i in range(5):
        # The runtime picks other kernels for another batch; the numbers may differ by float rounding of a code.
        assert sqnr(together[i : i + 1], artifact(one_by_one[i : i + 1])) > 40
    assert sqnr(model(one_by_one).detach(), together) > 20


def test_nested_outputs_keep_constants_and_none() -> None:
    class Mixed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = torch.nn.Conv2d(3, 4, 1), torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"y": [self.conv(x), x], "k": self.scale * 2, "n": 3, "nothing": None}

    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Mixed().eval()
    for target in ("cpu-int8", "ort-int8"):
        answer = fxc.compile(model, target, example_inputs=(x,), calibration_data=[x])(x)
        assert answer["n"] == 3
        assert answer["nothing"] is None
        assert torch.equal(answer["k"], torch.full((3,), 2.0))
        assert sqnr(model.conv(x).detach(), answer["y"][0]) > 30
        assert sqnr(x, answer["y"][1]) > 30


def test_named_results_come_back_as_plain_ones() -> None:
    class Best(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return OrderedDict(first=torch.topk(x.flatten(1), 3), second=x)

    x = small_inputs("conv_chain", 2, 5)
    artifact = fxc.compile(Best(), "ort-fp32", example_inputs=x)
    answer, wanted = artifact(*x), torch.topk(x[0].flatten(1), 3)
    assert list(answer) == ["first", "second"]
    assert type(answer["first"]) is tuple
    assert same(list(answer["first"]), list(wanted))


@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8"])
def test_a_model_that_does_nothing(target: str) -> None:
    x = small_inputs("conv_chain", 2, 5)
    for model in (torch.nn.Sequential(), torch.nn.Identity()):
        artifact = fxc.compile(model, target, example_inputs=x, calibration_data=[x])
        assert torch.equal(artifact(*x), x[0])
        assert artifact.report["kernels"]["integer"] == 0


def test_outputs_cut_the_graph() -> None:
    artifact = compiled("residual", "ort-fp32", outputs=["a2", "b1"])
    model, x = built("residual")
    answer = artifact(*x)
    values: dict[str, torch.Tensor] = {}
    for layer in ("a2", "b1"):
        getattr(model, layer).register_forward_hook(lambda _m, _i, out, key=layer: values.update({key: out}))
    try:
        model(*x)
    finally:
        for layer in ("a2", "b1"):
            getattr(model, layer)._forward_hooks.clear()
    assert sqnr((values["a2"].detach(), values["b1"].detach()), answer) > 100
    assert compiled("residual", "ort-fp32", outputs="a2").report["model"]["outputs"][0]["name"] == "a2_1"


def test_inputs_by_name() -> None:
    artifact = compiled("multi_io", "ort-int8")
    image, vector = small_inputs("multi_io", 2, 3)
    assert same(artifact(image, vector=vector), artifact(image, vector))
    assert same(artifact(vector=vector, image=image), artifact(image, vector))
    named = compiled("multi_io", "ort-int8", calibration_data=[{"image": image, "vector": vector}])
    assert same(named(image, vector), compiled("multi_io", calibration_data=[(image, vector)])(image, vector))


def test_a_dump_is_a_page_to_step_through(tmp_path: Path) -> None:
    artifact = compiled("conv_chain", dump=tmp_path / "dump")
    assert (tmp_path / "dump" / "index.html").stat().st_size > 1000
    changed = [row for row in artifact.report["passes"] if row["modified"]]
    assert len(list((tmp_path / "dump").rglob("*.svg"))) >= len(changed)


def test_the_artifact_lives_where_it_was_saved(tmp_path: Path) -> None:
    artifact = compiled()
    _, x = built("conv_chain")
    before = artifact(*x)
    made = artifact.path
    artifact.save(tmp_path / "one")
    assert artifact.path == tmp_path / "one"
    artifact.save(tmp_path / "two")
    assert same(artifact(*x), before)
    del artifact
    assert not made.exists(), "the temporary folder goes with the artifact"


def test_progress_tells_every_stage_in_order() -> None:
    from fxc.stages import STAGES

    heard: list[str] = []
    compiled(progress=lambda stage, done, total: heard.append(stage))
    assert tuple(dict.fromkeys(heard)) == STAGES
