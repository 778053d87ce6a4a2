"""The demo: its counting, its bars, its training, and once as a whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits

import fxc
from fxc.backends.coreml.toolchain import installed as coremltools_installed
from fxc.tools.demo import __main__ as demo
from fxc.tools.demo.measure import Answers, Latency, stage_medians
from fxc.tools.demo.outcome import Outcome, as_dict, examples, missed, rows
from fxc.tools.demo.training import DigitsNet, Fold, distort, folds, train


def outcome(**changes: object) -> Outcome:
    """An outcome that reaches every bar by a hair."""
    found = Outcome("cpu-int8", "cpu-fp32")
    found.answers = Answers(
        images=1000, float_right=990, compiled_right=987, agree=993, signal=1e4, noise=1.0
    )
    found.sizes = (1000, 300)
    found.latencies = [Latency("f32", 2.0, 1.9, 0.95), Latency("bf16", 1.0, 0.99, 0.99)]
    found.memory = {"float": {"runtime": 60, "peak": 200}, "compiled": {"runtime": 60, "peak": 100}}
    found.timings = [{"capture": 4.0, "emit": 0.5}, {"capture": 1.0, "emit": 0.5}]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_every_digit_is_held_out_once() -> None:
    digits = load_digits()
    found = folds()
    held = torch.cat([fold.test_images for fold in found])
    labels = torch.cat([fold.test_labels for fold in found])
    assert len(held) == 1797
    assert held.sum().item() == pytest.approx(digits.images.sum() / 16)
    assert torch.bincount(labels).tolist() == np.bincount(digits.target).tolist()
    for fold in found:
        assert len(fold.train_images) + len(fold.test_images) == 1797
    together = torch.cat([found[0].train_images, found[0].test_images]).flatten(1)
    assert len(together.unique(dim=0)) == len(np.unique(digits.data, axis=0))


def test_answers_count_what_numpy_counts() -> None:
    generator = torch.manual_seed(3)
    counted = Answers()
    parts = []
    for size in (40, 25):
        a = torch.randn(size, 10, generator=generator)
        b = a + 0.5 * torch.randn(size, 10, generator=generator)
        labels = torch.randint(0, 10, (size,), generator=generator)
        counted.add(torch.zeros(size, 1, 8, 8), labels, a, b)
        parts.append((a.numpy(), b.numpy(), labels.numpy()))
    a, b, labels = (np.concatenate(p) for p in zip(*parts))
    assert counted.float_top1 == pytest.approx(100 * np.mean(a.argmax(1) == labels))
    assert counted.compiled_top1 == pytest.approx(100 * np.mean(b.argmax(1) == labels))
    assert counted.agreement == pytest.approx(100 * np.mean(a.argmax(1) == b.argmax(1)))
    assert counted.sqnr_db == pytest.approx(
        20 * math.log10(np.linalg.norm(a) / np.linalg.norm(a - b)), abs=1e-4
    )
    telling = (a.argmax(1) != labels) | (b.argmax(1) != labels)
    assert len(counted.examples) == np.sum(telling) > 0


def test_a_hair_above_the_bars_is_held() -> None:
    assert missed(outcome()) == []
    assert sum(row.held is True for row in rows(outcome())) == 5


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"answers": Answers(1000, 990, 986, 995, 1e4, 1.0)}, "top-1"),
        ({"answers": Answers(1000, 990, 990, 992, 1e4, 1.0)}, "same answer"),
        ({"sizes": (1000, 301)}, "model file"),
        (
            {"latencies": [Latency("f32", 1.0, 0.5, 0.5), Latency("bf16", 1.0, 1.0, 1.0)]},
            "1 image, bf16 hint",
        ),
    ],
)
def test_a_missed_bar_is_said_and_fails(changes: dict[str, object], what: str) -> None:
    found = outcome(**changes)
    assert [row.what for row in missed(found)] == [what]
    assert as_dict(found)["missed"] == [what]
    said = StringIO()
    assert demo.judge([found], demo.Plan(), Console(file=said, width=200)) == 1
    assert f"missed cpu-int8: {what}" in said.getvalue()
    assert demo.judge([found], demo.QUICK, Console(file=said)) == 0


def test_examples_are_the_digits_own_pixels() -> None:
    image = folds()[0].test_images[0]
    answers = Answers(1, 1, 0, 0, 1.0, 1.0, [(image, 4, 9, 9), (image, 4, 4, 9)])
    found = examples(outcome(answers=answers))
    assert np.array_equal(np.array(found[0].pixels), (16 * image[0]).numpy().astype(int))
    assert [e.said for e in found] == ["a 4: float says 4, int8 says 9", "a 4: both say 9"]


def test_stage_medians_keep_the_order_of_the_stages() -> None:
    timings = [{"emit": e, "capture": c} for e, c in ((1.0, 9.0), (3.0, 1.0), (2.0, 2.0))]
    assert list(stage_medians(timings).items()) == [("capture", 2.0), ("emit", 2.0)]


def test_distortion_is_small_and_keeps_the_digit() -> None:
    torch.manual_seed(0)
    images = folds()[0].test_images[:64]
    moved = distort(images)
    assert moved.shape == images.shape
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not torch.equal(moved, images)
    assert torch.nn.functional.cosine_similarity(moved.flatten(1), images.flatten(1)).min() > 0.6


def test_training_is_reproducible_and_learns() -> None:
    """On a few images: the same seed gives the same weights, and the loss on them falls."""
    full = folds()[0]
    few = Fold(full.train_images[:64], full.train_labels[:64], full.test_images, full.test_labels)
    one, two = train(few, epochs=3, seed=1), train(few, epochs=3, seed=1)
    for a, b in zip(one.state_dict().values(), two.state_dict().values()):
        assert torch.equal(a, b)
    assert not one.training
    torch.manual_seed(1)
    loss = torch.nn.functional.cross_entropy
    with torch.no_grad():
        fresh = loss(DigitsNet().train()(few.train_images), few.train_labels)
        trained = loss(one.train()(few.train_images), few.train_labels)
    assert trained < 0.8 * fresh


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """The demo sets the number of threads; the next test should not notice."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_other_peoples_folder_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], torch_threads: None
) -> None:
    (tmp_path / "cpu-int8").mkdir()
    (tmp_path / "cpu-int8" / "thesis.txt").write_text("years of work")
    assert demo.main(["-o", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "cpu-int8" in shown.err
    assert "trained" not in shown.out
    assert (tmp_path / "cpu-int8" / "thesis.txt").read_text() == "years of work"


@pytest.mark.slow
def test_quick_demo(tmp_path: Path, torch_threads: None) -> None:
    assert demo.main(["--quick", "-o", str(tmp_path)]) == 0
    found = {t["target"]: t for t in json.loads((tmp_path / "results.json").read_text())["targets"]}
    results = found["cpu-int8"]
    sizes = [(tmp_path / t / "model.onnx").stat().st_size for t in ("cpu-fp32", "cpu-int8")]
    assert results["file_bytes"] == {"float": sizes[0], "compiled": sizes[1], "ratio": sizes[1] / sizes[0]}
    assert results["file_bytes"]["ratio"] < 0.30
    assert results["images"] == 360
    artifact, fold = fxc.load(tmp_path / "cpu-int8"), folds()[0]
    right = (artifact(fold.test_images).argmax(1) == fold.test_labels).float().mean().item()
    assert 100 * right == pytest.approx(results["top1"])
    assert results["top1"] > 50
    assert results["memory"]["compiled"]["peak"] > results["memory"]["compiled"]["runtime"] > 0
    # Of a chip that is not here: its answers, and nothing that only the chip could tell.
    jetson = found["jetson-int8"]
    assert jetson["images"] == 360
    assert jetson["sqnr_db"] > 20
    assert (jetson["latency"], jetson["memory"]) == ([], {})
    assert "ONNX Runtime" in jetson["elsewhere"]
    if coremltools_installed():
        iphone = found["iphone-int8"]
        assert (iphone["images"], iphone["latency"]) == (360, [])
        assert iphone["sqnr_db"] > 20
        assert iphone["file_bytes"]["ratio"] < 0.30
        assert "evaluator" in iphone["elsewhere"]
    page = (tmp_path / "report.html").read_text()
    assert f"{results['top1']:.2f} %" in page
