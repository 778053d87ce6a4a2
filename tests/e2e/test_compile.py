"""The main flow: each small net for each target, compiled, called, saved, loaded and called again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import fxc
from fxc.compiler.report_words import REPORT_WORDS
from tests.e2e.nets import built, compiled, same, sqnr
from tests.models.small import SMALL, small_inputs

INT8 = ("cpu-int8", "ort-int8")
FLOOR_DB = {"int8": 20.0, "fp32": 100.0, "bf16": 35.0}
"""int8 has 20 dB to lose on nets of three layers; bf16 keeps 8 bits of a mantissa; fp32 differs by rounding."""


@pytest.mark.parametrize("target", ["cpu-int8", "ort-int8", "cpu-fp32", "ort-fp32", "cpu-bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_the_main_flow(name: str, target: str, tmp_path: Path) -> None:
    model, _ = built(name)
    artifact = compiled(name, target)
    unseen = small_inputs(name, 3, 999)
    with torch.no_grad():
        wanted = model(*unseen)
    answer = artifact(*unseen)
    assert pytree.tree_structure(answer) == pytree.tree_structure(wanted)
    assert sqnr(wanted, answer) > FLOOR_DB[artifact.target.precision]

    saved = artifact.save(tmp_path / "bundle")
    loaded = fxc.load(saved)
    assert same(loaded(*unseen), answer)
    assert loaded.report == artifact.report
    check_report(loaded.report, name, target)
    assert (saved / "report.html").read_text().startswith("<!")


def check_report(report: dict[str, Any], name: str, target: str) -> None:
    """What must hold of the report of every small net."""
    assert set(REPORT_WORDS) <= set(report)
    assert report["target"]["name"] == target
    assert report["model"]["parameters"] == sum(p.numel() for p in used_parameters(name))
    for row in report["accuracy"]["outputs"]:
        assert row["file_db"] is not None
        if report["target"]["precision"] != "bf16":
            assert abs(row["lost_db"]) <= 1.0, "the file must be as good as the graph it was made from"
    assert [n["text"] for n in report["notes"] if n["kind"] == "warning"] == []
    kernels = report["kernels"]
    if target in INT8:
        assert report["calibration"]["images"] == 8
        assert kernels["integer"] > 0
        assert 0 < report["size"]["ratio"]
    else:
        assert report["calibration"] is None
        assert kernels["integer"] == 0
        assert report["float_tensors"] == []


def used_parameters(name: str) -> list[torch.Tensor]:
    """Every tensor of the net that its answer depends on: parameters, and what batch norms remember."""
    model, _ = built(name)
    return [t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")]
