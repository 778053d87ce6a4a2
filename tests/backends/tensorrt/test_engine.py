"""Building and running an engine here, against a stand-in for TensorRT: no real one was built. What is missing or fails is said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxc
from fxc.backends.tensorrt import engine
from fxc.backends.tensorrt.engine import Device, EngineOptions
from fxc.compiler.errors import ToolchainError, UsageError
from fxc.tools.cli.main import main

STAND_IN = Path(__file__).parent / "stand_in"
HERE = Device("10.3.0", "Stand-in GPU 0")
WIDE, HALF = "Thirty-two wide channel vectorized row major Int8 format.", "Row major linear FP16 format"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    x = torch.randn(4, 3, 12, 12)
    artifact = fxc.compile(net.eval(), "jetson-int8", example_inputs=(x,), calibration_data=[x])
    return Path(artifact.save(tmp_path_factory.mktemp("engine") / "bundle"))


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TensorRT is here, as far as a stand-in goes; the file has what it was asked for."""
    layers = [
        {"Name": "0 + 1", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": WIDE}], "Weights": {"Type": "Int8"}},
        {"Name": "2", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": HALF}], "Weights": {"Type": "Half"}},
    ]  # fmt: skip
    monkeypatch.setattr(engine, "device", lambda: HERE)
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FXC_TEST_ASKED", str(tmp_path / "asked.json"))
    monkeypatch.setenv("FXC_TEST_LAYERS", json.dumps({"Layers": layers, "Bindings": []}))
    return tmp_path / "asked.json"


def calls(asked: Path, word: str) -> list[Any]:
    return [entry[1:] for entry in json.loads(asked.read_text()) if entry[0] == word]


def test_it_is_built_run_and_described(bundle: Path, asked: Path, tmp_path: Path) -> None:
    before = sorted(p.name for p in bundle.iterdir())
    built = engine.build(bundle, tmp_path / "made" / "deep")
    assert built.file.read_bytes().decode().endswith("model.onnx")
    assert [(layer.name, layer.precision) for layer in built.layers] == [("0 + 1", "int8"), ("2", "fp16")]
    assert built.missed == {"2": "fp16"}
    assert built.tools == {"tensorrt": "10.3.0", "gpu": "Stand-in GPU 0"}
    (row,) = fxc.load(bundle).compare_device(built.outputs)  # type: ignore[union-attr]
    assert row.identical
    assert sorted(p.name for p in bundle.iterdir()) == before, "nothing is added to a bundle"
    assert "building from model.onnx" in (tmp_path / "made" / "deep" / "engine.log").read_text()


def test_what_is_asked_for(bundle: Path, asked: Path, tmp_path: Path) -> None:
    options = EngineOptions(batch=(1, 4, 16), workspace_mib=64, version_compatible=True)
    engine.build(bundle, tmp_path / "made", options)
    assert ["FP16"] in calls(asked, "flag")
    assert ["INT8"] in calls(asked, "flag")
    assert ["VERSION_COMPATIBLE"] in calls(asked, "flag")
    assert ["SPARSE_WEIGHTS"] not in calls(asked, "flag"), "the weights are dense"
    assert calls(asked, "memory") == [[64 << 20]]
    (shape,) = calls(asked, "shape")
    assert shape[1] == [[1, 3, 12, 12], [4, 3, 12, 12], [16, 3, 12, 12]]
    assert calls(asked, "cache") == [[0]]


def test_timings_are_kept_for_the_next_build(bundle: Path, asked: Path, tmp_path: Path) -> None:
    engine.build(bundle, tmp_path / "one")
    (cache,) = (tmp_path / "cache" / "fxc" / "tensorrt").iterdir()
    assert cache.name == "timing-10.3.0-Stand-in-GPU-0.cache"
    engine.build(bundle, tmp_path / "two")
    assert calls(asked, "cache") == [[len(cache.read_bytes())]]
    given = tmp_path / "mine" / "t.cache"
    engine.build(bundle, tmp_path / "three", EngineOptions(timing_cache=given))
    assert given.is_file()


def test_sparse_weights_are_said_to_be(asked: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 1).eval()
    with torch.no_grad():
        layer.weight.view(16, 4, 4)[:, :, :2] = 0
    artifact = fxc.compile(layer, "jetson-fp16", example_inputs=(torch.randn(2, 16, 8, 8),))
    engine.build(artifact.path, tmp_path / "made")
    assert ["SPARSE_WEIGHTS"] in calls(asked, "flag")


def test_version_11_builds_from_the_typed_file(
    bundle: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FXC_TEST_TENSORRT", "11.4.1")
    built = engine.build(bundle, tmp_path / "made")
    assert calls(asked, "parse")[0][0].endswith("model.typed.onnx")
    assert calls(asked, "flag") == []
    (row,) = fxc.load(bundle).compare_device(built.outputs)  # type: ignore[union-attr]
    assert row.passed
    assert not row.identical


def test_scripts_in_a_bundle_are_not_run(bundle: Path, asked: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "build_engine.py").write_text("raise SystemExit('from the bundle')")
    for name in ("json.py", "numpy.py", "argparse/__init__.py", "struct.pyc"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("raise SystemExit('from the bundle')")
    engine.build(copy, tmp_path / "made")


@pytest.mark.parametrize(
    ("how", "said"), [("build", "node_of_stem"), ("abort", "signal 6")]
)  # fmt: skip
def test_a_failure_ends_with_the_last_lines(
    bundle: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    monkeypatch.setenv("FXC_TEST_FAILS", how)
    with pytest.raises(ToolchainError) as caught:
        engine.build(bundle, tmp_path / "made")
    assert said in str(caught.value)
    assert "engine.log" in str(caught.value)
    assert not (tmp_path / "made" / "model.engine").exists()
    monkeypatch.delenv("FXC_TEST_FAILS")
    engine.build(bundle, tmp_path / "made")
    assert said not in (tmp_path / "made" / "engine.log").read_text()


def test_no_description_that_can_be_read(
    bundle: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FXC_TEST_LAYERS", "nonsense")
    with pytest.raises(ToolchainError, match="cannot be read"):
        engine.build(bundle, tmp_path / "made")


def test_a_folder_in_use(bundle: Path, asked: Path, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="holds something"):
        engine.build(bundle, tmp_path / "made")


@pytest.mark.parametrize("words", [{"batch": (0, 1, 8)}, {"batch": (1, 9, 8)}, {"workspace_mib": 0}])
def test_options_that_cannot_be(words: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        EngineOptions(**words)


@pytest.mark.gpu
def test_a_real_engine(bundle: Path, tmp_path: Path) -> None:
    try:
        found = engine.device()
    except ToolchainError as error:
        pytest.skip(error.what)
    built = engine.build(bundle, tmp_path / "made")
    (row,) = fxc.load(bundle).compare_device(built.outputs)  # type: ignore[union-attr]
    assert row.passed, (found, row)
    assert built.layers


def test_where_there_is_no_tensorrt(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "tensorrt" in sys.modules or any((Path(p) / "tensorrt").exists() for p in sys.path if p):
        pytest.skip("TensorRT is installed here")
    assert main(["verify", str(bundle), "--engine", str(tmp_path / "made"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "ToolchainError"
    assert "TensorRT's Python package is missing" in told["what"]
    assert not (tmp_path / "made").exists()


def test_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", type(sys)("tensorrt"))
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.3.0", raising=False)
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU here")
    with pytest.raises(ToolchainError, match="no CUDA"):
        engine.device()


def test_the_command(bundle: Path, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", str(bundle), "--engine", str(tmp_path / "made")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["device"]["engine"]["missed"] == {"2": "fp16"}
    assert told["device"]["outputs"][0]["identical"]
    words[-1] = str(tmp_path / "again")
    assert main(words) == 0
    text = capsys.readouterr().out
    for word in ("asked for int8 and not run in it: 1", "2: fp16", "1 int8, 1 fp16", "Stand-in GPU 0"):
        assert word in text
    inside = ["verify", str(bundle), "--engine", str(bundle / "made")]
    assert main(inside) == 1
    both = [*words, "--device-outputs", str(tmp_path)]
    assert main(both) == 1


def test_targets_without_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = fxc.compile(nn.Conv2d(3, 4, 1).eval(), "ort-fp32", example_inputs=(torch.randn(2, 3, 4, 4),))
    path = artifact.save(tmp_path / "b")
    assert main(["verify", str(path), "--engine", str(tmp_path / "made"), "--json"]) == 1
    assert "has no engine" in json.loads(capsys.readouterr().out)["what"]
