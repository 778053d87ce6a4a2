"""One capture and one calibration for several targets, and statistics that stand for the data."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fxc
from fxc.compiler.errors import ArtifactError, CalibrationError, UsageError
from tests.e2e.nets import built, content, data, same

TARGETS = ["cpu-int8", "ort-int8", "cpu-fp32"]


def hashed(folder: Path) -> dict[str, bytes]:
    """Every file but the seconds."""
    return {name: file for name, file in content(folder).items() if not name.endswith("timings.json")}


@pytest.fixture(scope="module")
def together() -> fxc.Artifacts:
    model, x = built("shuffle")
    found = fxc.compile(model, TARGETS, example_inputs=x, calibration_data=data("shuffle"))
    assert isinstance(found, fxc.Artifacts)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_each_bundle_is_the_one_that_the_target_gets_alone(together: fxc.Artifacts, target: str) -> None:
    model, x = built("shuffle")
    alone = fxc.compile(model, target, example_inputs=x, calibration_data=data("shuffle"))
    assert hashed(alone.path) == hashed(together[target].path)


def test_the_data_is_read_once() -> None:
    model, x = built("residual")
    reads = 0

    def batches() -> Iterator[Any]:
        nonlocal reads
        for batch in data("residual"):
            reads += 1
            yield batch

    fxc.compile(model, TARGETS[:2], example_inputs=x, calibration_data=batches())
    assert reads == len(list(data("residual")))


def test_saved_together_and_opened_again(together: fxc.Artifacts, tmp_path: Path) -> None:
    _, x = built("shuffle")
    together.save(tmp_path / "out")
    loaded = fxc.load(tmp_path / "out")
    assert isinstance(loaded, fxc.Artifacts)
    assert list(loaded) == TARGETS
    for target in TARGETS:
        assert same(loaded[target](*x), together[target](*x))
        assert same(fxc.load(tmp_path / "out" / target)(*x), together[target](*x))
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(f'href="{target}/report.html"' in page for target in TARGETS)
    assert [t["target"]["name"] for t in loaded.report["targets"]] == TARGETS
    with pytest.raises(ArtifactError, match="already holds"):
        together.save(tmp_path / "out")
    together.save(tmp_path / "out", force=True)


def test_a_mixed_up_or_damaged_folder_is_refused(tmp_path: Path) -> None:
    model, x = built("shuffle")
    together = fxc.compile(model, TARGETS, example_inputs=x, calibration_data=data("shuffle"))
    together.save(tmp_path / "out")
    fxc.compile(model, "ort-int8", example_inputs=x, calibration_data=data("shuffle"), name="other").save(
        tmp_path / "out" / "ort-int8", force=True
    )
    with pytest.raises(ArtifactError, match="not the one that"):
        fxc.load(tmp_path / "out")
    # The bundles of an artifact in memory live where they were saved last.
    with pytest.raises(ArtifactError):
        together.save(tmp_path / "again")
    fxc.compile(model, TARGETS, example_inputs=x, calibration_data=data("shuffle")).save(tmp_path / "again")
    report = tmp_path / "again" / "report.json"
    report.write_text(report.read_text().replace("Shuffle", "Shuffel"))
    with pytest.raises(ArtifactError, match=r"report\.json was changed"):
        fxc.load(tmp_path / "again")


@pytest.mark.parametrize("target", [[], ["cpu-int8", "cpu-int8"], ["cpu-int8", "nothing"], 3, [3]])
def test_bad_lists_of_targets(target: Any) -> None:
    model, x = built("residual")
    with pytest.raises(UsageError):
        fxc.compile(model, target, example_inputs=x)


@pytest.mark.parametrize("name", ["residual", "se_hardswish", "transformer", "multi_io"])
def test_statistics_stand_for_the_data(name: str, tmp_path: Path) -> None:
    model, x = built(name)
    statistics = fxc.calibrate(model, data(name), example_inputs=x)
    loaded = fxc.Statistics.load(statistics.save(tmp_path / "s"))
    for words in ({}, {"observer": "mse"}, {"observer": "percentile", "percentile": 99.0}):
        for target in TARGETS[:2]:
            want = fxc.compile(model, target, example_inputs=x, calibration_data=data(name), **words)
            got = fxc.compile(model, target, example_inputs=x, calibration_data=loaded, **words)
            if name == "transformer":
                # A target may rewrite attention: what lies behind it was then recorded by another order of additions.
                assert _db(got) == pytest.approx(_db(want), abs=0.1)
            else:
                assert got.model.read_bytes() == want.model.read_bytes()
                assert got.report["accuracy"] == want.report["accuracy"]


def _db(artifact: fxc.Artifact) -> list[float]:
    return [output["file_db"] for output in artifact.report["accuracy"]["outputs"]]


def test_statistics_of_another_model_or_weights_are_refused() -> None:
    model, x = built("residual")
    statistics = fxc.calibrate(model, data("residual"), example_inputs=x)
    other, y = built("conv_chain")
    with pytest.raises(CalibrationError, match="another program"):
        fxc.compile(other, "cpu-int8", example_inputs=y, calibration_data=statistics)
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        next(tuned.parameters()).mul_(1.01)
    with pytest.raises(CalibrationError, match="another program"):
        fxc.compile(tuned, "cpu-int8", example_inputs=x, calibration_data=statistics)


def test_a_lacking_histogram_is_said() -> None:
    model, x = built("residual")
    statistics = fxc.calibrate(model, data("residual"), example_inputs=x)
    for stats in statistics.tensors.values():
        stats.histogram = None
    fxc.compile(model, "cpu-int8", example_inputs=x, calibration_data=statistics)
    with pytest.raises(CalibrationError, match="no histogram"):
        fxc.compile(model, "cpu-int8", example_inputs=x, calibration_data=statistics, observer="mse")


def test_the_samples_of_the_proof_travel_with_the_statistics() -> None:
    model, x = built("residual")
    statistics = fxc.calibrate(model, data("residual"), example_inputs=x)
    artifact = fxc.compile(model, "cpu-int8", example_inputs=x, calibration_data=statistics)
    first: Tensor = next(iter(data("residual")))[0]
    assert torch.equal(artifact.golden.inputs[0][0], first[0])
