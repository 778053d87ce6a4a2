"""The benchmark tool: its arithmetic against hand-computed values, and every command end to end on a tiny net."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset13

import fxc
from fxc.compiler.errors import ToolchainError
from fxc.tools.bench import child, compile, contestants, growth, latency, memory, quality
from fxc.tools.bench.__main__ import main
from fxc.tools.bench.figures import geomean, lead_interval, ratio, rotated, sqnr_db
from fxc.tools.bench.machine import facts
from fxc.tools.bench.openvino_file import OpenVinoFile, macs
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.subject import enliven, images, subject
from fxc.tools.bench.table import Table, verdict
from tests.models.small import build_small

SMALL = Path(__file__).parents[1] / "models/small.py"
NET, SHOWN = f"{SMALL}:build_small(residual)", "small.py:build_small(residual)"
PLAN = Plan(NET, resolution=32, images=4, held_out=2, threads=1)
TINY = ["--resolution", "32", "--images", "4", "--held-out", "4", "--threads", "1", "--calls", "2"]


def test_ratios_are_taken_round_by_round() -> None:
    # Medians alone would say 2 / 4: the second round was slow for both.
    assert ratio([1.0, 8.0, 2.0], [2.0, 4.0, 8.0]) == 0.5
    with pytest.raises(ValueError, match=r"zip\(\)"):
        ratio([1.0], [1.0, 2.0])


def test_means_and_decibels() -> None:
    assert geomean([0.25, 1.0, 4.0]) == pytest.approx(1.0)
    assert geomean([0.39, 0.30, 0.28]) == pytest.approx((0.39 * 0.30 * 0.28) ** (1 / 3))
    assert geomean([]) is None
    assert sqnr_db(100.0, 1.0) == pytest.approx(20.0)
    assert sqnr_db(1.0, 0.0) == math.inf


def test_the_order_rotates() -> None:
    names = ("a", "b", "c")
    assert [rotated(names, turn) for turn in range(4)] == [
        ("a", "b", "c"),
        ("b", "c", "a"),
        ("c", "a", "b"),
        names,
    ]
    assert rotated((), 3) == ()


def test_a_lead_that_is_the_same_on_every_image_has_no_spread() -> None:
    noise = [1.0, 50.0, 3.0, 0.2]
    low, high = lead_interval([1.0] * 4, noise, [10 * n for n in noise])
    assert (low, high) == (pytest.approx(10.0), pytest.approx(10.0))
    low, high = lead_interval([1.0] * 4, noise, list(reversed(noise)))
    assert low < 0.0 < high


def test_verdicts() -> None:
    assert verdict("x", 0.4, 0.4).startswith("✓ x: 0.40 (bar ≤ 0.4)")
    assert verdict("x", 0.41, 0.4).startswith("✗")
    assert verdict("x", 0.41, 0.4, at_most=False).startswith("✓")


def test_compile_ratios_and_their_table() -> None:
    def times(*wall: float) -> dict[str, Any]:
        return {"wall": list(wall), "cpu": [2 * w for w in wall], "stages": {"a": list(wall)}}

    rows = {
        "m": {
            "warm": {
                "floor": times(1, 1, 1),
                "fxc": times(1, 2, 9),
                "ort": times(4, 4, 9),
                "nncf": {"failed": "no"},
            }
        },
        "n": {
            "warm": {
                "floor": times(1, 1, 1),
                "fxc": times(1, 1, 1),
                "ort": times(2, 2, 2),
                "nncf": times(1, 1, 1),
            }
        },
    }
    assert compile.ratios(rows, "ort") == {"m": 0.5, "n": 0.5}
    assert compile.ratios(rows, "nncf") == {"n": 1.0}
    plan = Plan("", contestants=("fxc", "ort", "nncf"), rounds=3)
    table = compile.tables({"m": plan, "n": plan}, rows)[0]
    assert table.lines[0] == [
        "m", "1.00 / 2.00", "2.00 / 4.00", "4.00 / 8.00", "failed: no", "0.50 / 0.50", "– / –"
    ]  # fmt: skip
    assert table.lines[-1][-2:] == ["0.50 / 0.50", "1.00 / 1.00"]
    assert "✗ fxc ÷ ORT path, geometric mean, warm: 0.50 (bar ≤ 0.4)" in table.notes


def test_latency_names_the_worst_model() -> None:
    def row(ours: float, theirs: float) -> dict[str, Any]:
        return {
            "times": {
                "OpenVINO f32": {n: {"wall": [t], "cpu": [t]} for n, t in (("fxc", ours), ("nncf", theirs))}
            }
        }

    plan = Plan("", contestants=("fxc", "nncf"))
    (table,) = latency.tables({"m": plan}, {"m": row(1.2, 1.0), "n": row(0.5, 1.0)})
    assert table.title == "Latency in OpenVINO f32"
    assert table.lines[-1][-1] == "0.77 / 0.77"
    assert table.notes[1:] == [
        "✓ fxc ÷ NNCF, geometric mean: 0.77 (bar ≤ 1)",
        "✗ fxc ÷ NNCF, the worst (m): 1.20 (bar ≤ 1.1)",
    ]


def test_latency_of_several_processes_is_one_list() -> None:
    def part(*wall: float) -> dict[str, Any]:
        return {"OpenVINO f32": {"fxc": {"wall": list(wall), "cpu": list(wall)}, "nncf": {"failed": "no"}}}

    ours = latency.joined([part(1.0, 2.0), part(3.0)])["OpenVINO f32"]
    assert ours == {"fxc": {"wall": [1.0, 2.0, 3.0], "cpu": [1.0, 2.0, 3.0]}, "nncf": {"failed": "no"}}
    assert latency.joined([part(1.0), {"failed": "killed"}]) == {"failed": "killed"}


def test_quality_is_judged_against_the_better_peer() -> None:
    def entry(db: float, runtime: str = "openvino", coverage: float = 1.0) -> dict[str, Any]:
        noise = [10 ** (-db / 10)] * 3
        return {runtime: {"db": db, "noise": noise}, "coverage": coverage, "megabytes": 1.0}

    row = {
        "signal": [1.0] * 3,
        "contestants": {
            "fxc": entry(20.0, coverage=0.9),
            "fxc:mse": entry(21.0),
            "ort": entry(20.4, "ort"),
            "nncf": entry(19.0),
        },
    }
    assert quality.better_peer(row) == "ort"
    assert quality.lead("fxc:mse", row) == (pytest.approx(0.6), pytest.approx(0.6), pytest.approx(0.6))
    plan = Plan("", contestants=("fxc", "fxc:mse", "ort", "nncf"))
    output, coverage = quality.tables({"m": plan}, {"m": row})
    assert output.lines[0][-1] == "fxc:mse"
    assert output.notes[1] == "✗ the default is not behind the better peer: but m -0.40 dB"
    assert output.notes[2] == "✓ the best of ours leads by 0.5 dB or more"
    assert coverage.notes[1] == "✗ coverage is not below NNCF's: but m 90.00% against 100.00%"


def test_growth_and_memory_bars() -> None:
    def row(layers: int, seconds: float) -> dict[str, Any]:
        return {
            "layers": layers,
            "export": 1.0,
            "stages": {"capture": seconds, "quantize": seconds, "bundle": 1.0},
        }

    plan = Plan("")
    (table,) = growth.tables({"10": plan}, {"10": row(10, 1.0), "100": row(100, 20.0)})
    assert table.notes[1] == "✗ time per layer, 100 ÷ 10, capture to Q/DQ: 2.00 (bar ≤ 1.5)"
    assert memory.bar(10**9) == 5e9
    found = {"weights": 10**9, "before": 10**9, "peak": 6 * 10**9}
    (table,) = memory.tables({"m": plan}, {"m": {"fxc": found}})
    assert table.lines == [["m", "1.00", "5.00", "1.00 → 6.00"]]
    assert "✗" in table.notes[1]


def test_markdown_is_one_line_per_row() -> None:
    text = Table("T", ["a", "b"], [["x|y", "1"]], ["note"]).markdown()
    assert text == "## T\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n\nnote\n"


def test_a_plan_reads_back_and_names_the_machine() -> None:
    plan = replace(
        PLAN, contestants=("fxc", "fxc:a", "ort"), variants={"a": {"observer": "mse"}}, hints=("f32", "x")
    )
    assert Plan.read(plan.text()) == plan
    assert plan.options("fxc:a") == {"observer": "mse"}
    assert plan.options("fxc") == plan.options("ort") == {}
    assert f"torch {torch.__version__.split('+')[0]}" in facts(3)["versions"]


def test_multiply_accumulates_of_openvino_operators() -> None:
    x = opset13.parameter([1, 8, 10, 12], np.float32)
    w = opset13.constant(np.ones((16, 8, 3, 3), np.float32))
    grouped = opset13.constant(np.ones((4, 4, 2, 3, 3), np.float32))
    conv = opset13.convolution(x, w, [1, 1], [1, 1], [1, 1], [1, 1])
    group = opset13.group_convolution(x, grouped, [2, 2], [1, 1], [1, 1], [1, 1])
    up = opset13.convolution_backprop_data(x, opset13.constant(np.ones((8, 5, 2, 2), np.float32)), [2, 2])
    a, b = opset13.parameter([2, 7, 20], np.float32), opset13.constant(np.ones((20, 30), np.float32))
    turned = opset13.matmul(opset13.parameter([20, 7], np.float32), b, True, False)
    q, k = opset13.parameter([1, 3, 5, 8], np.float32), opset13.parameter([1, 3, 6, 8], np.float32)
    assert macs(conv) == 16 * 10 * 12 * 8 * 9
    assert macs(group) == 16 * 5 * 6 * 2 * 9
    assert macs(up) == 8 * 10 * 12 * 5 * 4
    assert macs(opset13.matmul(a, b, False, False)) == 2 * 7 * 30 * 20
    assert macs(turned) == 7 * 30 * 20
    assert macs(opset13.scaled_dot_product_attention(q, k, k)) == 2 * 3 * 5 * 6 * 8
    assert macs(opset13.relu(x)) == 0


@pytest.mark.parametrize("name", ["residual", "se_hardswish", "transformer"])
def test_coverage_agrees_with_the_compile_report(name: str, tmp_path: Path) -> None:
    """Two counts that share no code: shapes in OpenVINO's graph, and shapes in ours matched by layer names."""
    model, inputs = build_small(name)
    artifact = fxc.compile(model, "cpu-int8", example_inputs=inputs, calibration_data=[inputs])
    shape = (1, *inputs[0].shape[1:])
    found = OpenVinoFile(artifact.model, shape, "f32", 1).coverage()
    said = artifact.report["kernels"]
    assert (found.macs, found.share) == (said["macs"], pytest.approx(said["mac_coverage"]))
    assert (found.share < 1.0) == (name == "transformer"), "an average that a softmax weighs stays in float"
    image = inputs[0][:1].numpy()
    np.testing.assert_allclose(
        OpenVinoFile(artifact.model, shape, "f32", 1)(image), artifact(inputs[0][:1]).numpy()
    )


def test_a_float_file_has_no_integer_kernels(tmp_path: Path) -> None:
    x = opset13.parameter([1, 3, 8, 8], np.float32)
    conv = opset13.convolution(x, np.ones((4, 3, 3, 3), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    ov.save_model(ov.Model([conv], [x]), tmp_path / "float.xml")
    found = OpenVinoFile(tmp_path / "float.xml", (1, 3, 8, 8), "f32", 1).coverage()
    assert (found.share, found.macs) == (0.0, 4 * 36 * 27)
    assert len(found.float_layers) == 1


def test_models_come_alive_and_data_is_the_same_for_all() -> None:
    first, second = (subject(replace(PLAN, model="squeezenet1_1", resolution=64)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters()))
    assert torch.equal(first.calibration, second.calibration)
    assert not torch.equal(first.calibration[:2], first.held_out)
    assert not any(bool((p == p.flatten()[0]).all()) for p in first.model.parameters())
    data = images(3, 32, seed=5)
    assert data.shape == (3, 3, 32, 32)
    torch.testing.assert_close(data.mean((1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    norm = enliven(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), data, 3)[0]
    torch.testing.assert_close(norm.running_mean, data.mean((0, 2, 3)))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError) as caught:
        contestants.build("nncf", subject(PLAN), tmp_path, {})
    assert "nncf is not installed" in str(caught.value)
    assert "pip install 'fxc[bench]'" in str(caught.value)


def test_children_report_nothing_home() -> None:
    found = child.environment(3)
    assert (found["ORT_DISABLE_TELEMETRY"], found["NNCF_CI"], found["TF_BUILD"]) == ("1", "1", "1")
    assert found["OMP_NUM_THREADS"] == "3"


def test_a_child_that_fails_is_a_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "memory.md"
    assert main(["memory", f"{SMALL}:build_small(nonsense)", "-o", str(output), "--peers", "", *TINY]) == 1
    assert "failed: " in output.read_text(encoding="utf-8")
    assert "no small net 'nonsense'" in output.with_suffix(".log").read_text(encoding="utf-8")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "words", [["--peers", "tvm"], ["--variant", "a={"], ["--variant", "a=1"]], ids=["peer", "yaml", "mapping"]
)
def test_wrong_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def peers() -> list[Any]:
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                bool(contestants.missing(name)), reason=f"{name} needs {contestants.INSTALL}"
            ),
        )
        for name in contestants.PEERS
    ]


@pytest.mark.slow
@pytest.mark.parametrize("peer", peers())
def test_end_to_end_beside_a_peer(peer: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.md"
    assert main(["quality", NET, "-o", str(output), "--peers", peer, "--variant", "mse", *TINY]) == 0
    assert f"| model | fxc dB | fxc:mse dB | {contestants.title(peer)} dB |" in output.read_text(
        encoding="utf-8"
    )
    row = rows(output.with_suffix(".json"))
    assert {quality.own(n, row)["db"] > 10.0 for n in ("fxc", "fxc:mse", peer)} == {True}
    assert len(row["signal"]) == 4
    printed = capfd.readouterr()
    assert printed.out.strip() == output.read_text(encoding="utf-8").strip()
    assert len(printed.err.splitlines()) == 1


@pytest.mark.slow
def test_times_end_to_end(tmp_path: Path) -> None:
    words = ["--peers", "", "--rounds", "2", "--cold", "0", *TINY]
    for command in ("compile", "latency"):
        assert main([command, NET, "-o", str(tmp_path / f"{command}.md"), *words]) == 0
    warm = rows(tmp_path / "compile.json")["warm"]
    assert {name: len(warm[name]["wall"]) for name in warm} == {"floor": 2, "fxc": 2}
    for turn in range(2):
        together = sum(seconds[turn] for seconds in warm["fxc"]["stages"].values())
        assert 0.0 < together <= warm["fxc"]["wall"][turn]
    assert f"| {SHOWN} | fxc | capture " in (tmp_path / "compile.md").read_text(encoding="utf-8")
    times = rows(tmp_path / "latency.json")["times"]
    assert {len(times[where]["fxc"]["wall"]) for where in times} == {2}
    assert {"OpenVINO f32", "ONNX Runtime f32"} <= set(times)


def rows(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["rows"][SHOWN]
    return found
