"""The table of what is emitted for TensorRT: how its numbers are counted, on files and rows made by hand; and one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models.zoo import CLASSIFIERS
from tests.zoo import tensorrt_sweep, tensorrt_table
from tests.zoo.store import Result, Store
from tests.zoo.tensorrt_one import int8_share, measure, residual_sums


def row(**changes: Any) -> dict[str, Any]:
    int8 = {
        "bytes": {"model.onnx": 4 << 20, "model.typed.onnx": 1 << 20},
        "errors": [],
        "slow": {"depthwise": 3},
        "share": 1.0,
        "graph_db": 30.0,
        "file_db": 29.9,
        "typed_db": 28.0,
        "sums": {"coded": 8, "reasons": {"its reader is float": 2}, "unexplained": []},
        **changes,
    }
    half = {**int8, "share": None, "sums": None, "errors": []}
    return {
        "name": "n",
        "resolution": 96,
        "macs": 10**9,
        "float_bytes": 4 << 20,
        "targets": {"jetson-int8": int8, "jetson-fp16": half},
    }


def result(name: str, content: dict[str, Any] | None, reason: str = "") -> Result:
    return Result(name, "v", reason, content, 3.0, 1.0)


def test_every_classifier_has_a_family() -> None:
    page = tensorrt_table.render([result(name, row()) for name in CLASSIFIERS], [])
    assert [name for name in CLASSIFIERS if page.count(f"| {name} |") != 1] == []
    assert "80 of 80" in page
    assert "broken by |\n|---|---|---|\n" in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"errors": ["model.onnx 8.5: zero-point-value at conv1"]}, "resnet18 (1, the first model.onnx 8.5: zero-point"),
        ({"share": 0.96}, "resnet18 (96.00%)"),
        ({"sums": {"coded": 0, "reasons": {}, "unexplained": ["layer1.0.add"]}}, "1 without, the first layer1.0.add"),
        ({"file_db": 28.9}, "resnet18 (1.10 dB)"),
        ({"typed_db": 25.0}, "resnet18 (5.00 dB)"),
        ({"typed_db": None}, "resnet18 (not measured)"),
    ],
)  # fmt: skip
def test_a_bar_that_is_broken_says_by_whom(changes: dict[str, Any], said: str) -> None:
    page = tensorrt_table.render([result("resnet18", row(**changes)), result("vgg11", row())], ["alexnet"])
    assert said in page
    assert "| 1 of 2 |" in page
    assert "Not measured yet: alexnet." in page


def test_a_failure_is_in_the_table() -> None:
    page = tensorrt_table.render([result("vgg11", None, "out of | time")], [])
    assert "Failed: vgg11 (out of | time)." in page
    assert "failed: out of \\| time" in page


def test_reasons_are_counted() -> None:
    page = tensorrt_table.render([result("vgg11", row()), result("vgg13", row())], [])
    assert "- 4: its reader is float" in page
    assert "depthwise 6" in page


def test_what_counts_as_int8() -> None:
    layers = [
        {"op": "conv2d", "macs": 90, "quantized": True},
        {"op": "linear", "macs": 10, "quantized": False},
        {"op": "matmul", "macs": 900, "quantized": False},
    ]
    assert int8_share(layers, ["matmul"]) == 0.9
    assert int8_share(layers, []) == 0.09
    assert int8_share(layers[2:], ["matmul"]) is None


def test_which_sums_count() -> None:
    """A bias and a constant are no residual; a sum with a coded operand is int8; the others need a reason."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"], "a/quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "a/dequantize"),
        helper.make_node("Add", ["x", "one"], ["biased"], "biased"),
        helper.make_node("Add", ["biased", "d"], ["b"], "coded"),
        helper.make_node("Add", ["b", "a"], ["c"], "why"),
        helper.make_node("Add", ["c", "a"], ["y"], "bare/relu"),
        helper.make_node("Add", ["one", "one"], ["two"], "constant"),
    ]
    weights = [numpy_helper.from_array(np.array(1, np.float32), name) for name in ("one", "s")]
    weights.append(numpy_helper.from_array(np.array(0, np.int8), "z"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights))
    onnx.checker.check_model(model)
    found = residual_sums(model, {"why": "its operand layer1.0.add is float", "coded": "never asked"})
    assert (found.coded, found.reasons, found.unexplained) == (1, {"its operand … is float": 1}, ["bare"])


def test_a_sweep_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measured(name: str, *words: Any, **more: Any) -> Result:
        asked.append(name)
        return Result(name, words[2], "" if name != "vgg13" else "out of time", row(), 1.0, 1.0)

    monkeypatch.setattr(tensorrt_sweep, "measured", measured)
    words = ["--results", str(tmp_path / "r"), "--page", str(tmp_path / "p.md"), "--workers", "1"]
    assert tensorrt_sweep.main(["vgg11", "vgg13", *words]) == 1
    assert tensorrt_sweep.main(["vgg11", "vgg13", *words]) == 1
    assert asked == ["vgg11", "vgg13", "vgg13"], "what failed is tried again, what was measured is not"
    assert "| vgg11 |" in (tmp_path / "p.md").read_text()
    kept = Store(tmp_path / "r", "another version")
    assert kept.get("vgg11") is None
    assert kept.get("vgg11", any_version=True) is not None


def test_the_row_of_a_model() -> None:
    found = measure("resnet18", 64)
    row = json.loads(json.dumps(found, default=lambda value: vars(value)))
    int8, half = row["targets"]["jetson-int8"], row["targets"]["jetson-fp16"]
    assert int8["errors"] + half["errors"] == []
    assert int8["share"] == 1.0
    assert int8["sums"] == {"coded": 8, "reasons": {}, "unexplained": []}
    assert half["sums"] is None
    assert int8["bytes"]["model.typed.onnx"] < 0.3 * int8["bytes"]["model.onnx"]
    assert half["bytes"]["model.typed.onnx"] == pytest.approx(0.5 * half["bytes"]["model.onnx"], rel=0.02)
    assert "| resnet18 | 64 |" in tensorrt_table.line(result("resnet18", row))
