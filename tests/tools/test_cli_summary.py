"""What a finished compile says first: the warnings of its report, and the size of what it is about."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import fxc
from fxc.compiler.backend import Emitted
from fxc.report import model_files
from fxc.tools.cli import summary


def artifact(*warnings: tuple[str | None, str]) -> Any:
    notes = [{"kind": "warning", "layer": layer, "text": text} for layer, text in warnings]
    report = {
        "model": {"name": "net"},
        "target": {"name": "t", "precision": "fp16"},
        "notes": [{"kind": "info", "layer": None, "text": "never shown"}, *notes],
        "accuracy": {"outputs": []},
        "kernels": {},
        "float_tensors": [],
    }
    return SimpleNamespace(
        report=report, timings={}, manifest={"model": "m.onnx", "files": {"m.onnx": {"bytes": 10}}}
    )


@pytest.mark.parametrize(
    ("count", "last"), [(0, ""), (1, "first 0"), (3, "first 2"), (5, "and 2 more in the report")]
)
def test_at_most_three_warnings(count: int, last: str) -> None:
    made = artifact(*[(None, f"first {i}") for i in range(count)])
    result = summary.told(made, Path("b"), (), "data")
    assert result.text.count("first") == min(count, 3)
    assert "never shown" not in result.text
    assert last in result.text
    assert ("more in the report" in result.text) == (count > 3)
    assert len(result.document["notes"]) == count
    assert result.text.splitlines()[-1].endswith("report.html")


def test_what_is_left_to_do_is_said() -> None:
    made = artifact()
    made.manifest["notes"] = ["the engine is to be built on the device", "b", "c", "d"]
    text = summary.told(made, Path("b"), (), None).text
    assert "note  the engine is to be built on the device" in text
    assert "and 1 more in the manifest" in text


def test_several_targets_say_whose_warning_it_is() -> None:
    class Made(dict[str, Any]):
        name = "net"

    result = summary.told_together(Made(one=artifact((None, "bad")), two=artifact()), Path("b"), (), None)  # type: ignore[arg-type]
    assert "warning  one: bad" in result.text


def test_a_layer_is_named_once() -> None:
    text = summary.told(
        artifact(("conv1", "is odd"), ("head", "output head is zero")), Path("b"), (), None
    ).text
    assert "conv1: is odd" in text
    assert "head: output" not in text


@pytest.mark.parametrize(
    ("files", "variants", "wanted"),
    [
        (("m.onnx", "m.onnx.data", "m.typed.onnx", "m.typed.onnx.data", "go.py", "go.txt"), ("m.typed.onnx",),
         ["m.onnx", "m.onnx.data"]),
        (("m.xml", "m.bin"), (), ["m.xml", "m.bin"]),
        (("m.onnx", "m.dla.onnx", "m.dla.cache", "build.json"), (), ["m.onnx"]),
        (("m.onnx", "m.toolkit.onnx", "m.rknn", "rknn.log"), ("m.rknn",), ["m.onnx"]),
        (("m.bin", "weights/data.0", "weights/data.1"), (), ["m.bin", "weights/data.0", "weights/data.1"]),
    ],
)  # fmt: skip
def test_which_files_are_the_model(
    files: tuple[str, ...], variants: tuple[str, ...], wanted: list[str]
) -> None:
    assert model_files(Emitted(files[0], files, (), (), variants=variants)) == wanted


def test_the_size_of_a_bundle_with_scripts_and_variants(tmp_path: Path) -> None:
    made = fxc.compile(nn.Conv2d(3, 16, 3).eval(), "jetson-fp16", example_inputs=(torch.randn(2, 3, 8, 8),))
    sizes = summary.model_size(made)
    assert sizes["file_bytes"] == made.model.stat().st_size
    assert sizes["ratio"] == sizes["file_bytes"] / (16 * 3 * 9 + 16) / 4
    assert len(made.manifest["files"]) > 5
