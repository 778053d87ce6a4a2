"""``jetson-int8-dla``: the files up to TensorRT 10.7, read by their formats alone, mean what was executed on this host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import fxc
from fxc.backends.tensorrt.checker import check_file
from fxc.backends.tensorrt.dla_cache import cache_text, precisions_text, read_cache
from fxc.compiler.errors import ArtifactError, LegalityError
from tests.backends.tensorrt.dla_nets import (
    LAYERS,
    PLAIN,
    Channels,
    Mixed,
    Native,
    alive,
    float16_layers,
    float_tensors,
    meant,
    scales,
)
from tests.models.metrics import sqnr_db

DATA = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SCORES = ("Add", "Sub", "Concat")


def compiled(net: nn.Module, folder: Path, **words: Any) -> Path:
    given = {"example_inputs": (DATA[:2],), "calibration_data": DATA.split(2), **words}
    artifact = fxc.compile(net, "jetson-int8-dla", dynamic_batch=False, **given)
    return Path(artifact.save(folder / "bundle"))


@pytest.fixture(scope="module", params=[Native, Mixed, Channels])
def net(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return alive(request.param(), DATA)


@pytest.fixture(scope="module")
def bundle(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(net, tmp_path_factory.mktemp("dla"))


def run(model: Path | bytes, x: Tensor) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = str(model) if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(y) for y in session.run(None, {session.get_inputs()[0].name: x.numpy()})]


def test_every_float_tensor_has_a_scale_and_nothing_else_has(bundle: Path) -> None:
    model, known = onnx.load(bundle / PLAIN), scales(bundle)
    assert known.keys() == float_tensors(model)
    assert all(np.isfinite(scale) and scale > 0 for scale in known.values())
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in model.graph.node}


def test_the_cache_has_the_scales_that_were_executed(bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx").graph
    numbers = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    quantizers = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in numbers]
    assert len(quantizers) > 3
    known, outputs = scales(bundle), {output.name for output in graph.output}
    for node in quantizers:
        result = next(n.output[0] for n in graph.node if n.input[0] == node.output[0])
        name = result if result in outputs else node.input[0]
        assert np.float32(known[name]) == numbers[node.input[1]], node.name


def test_the_three_files_mean_what_was_executed(bundle: Path, net: nn.Module) -> None:
    """A file with quantizers is made out of them as TensorRT would, and answers as the one that the compile ran."""
    want, found = run(bundle / "model.onnx", DATA[:2]), run(meant(bundle).SerializeToString(), DATA[:2])
    with torch.no_grad():
        exact = net(DATA[:2])
    for reference, a, b in zip(exact, want, found, strict=True):
        assert sqnr_db(reference, a) > 25.0
        assert sqnr_db(a, b) > 60.0


def test_what_the_accelerator_adds_or_joins_has_one_scale(bundle: Path) -> None:
    known, half = scales(bundle), float16_layers(bundle)
    nodes = [n for n in onnx.load(bundle / PLAIN).graph.node if n.op_type in SCORES and n.name not in half]
    for node in nodes:
        assert len({known[name] for name in node.input if name in known}) == 1, node.name
    pools = [n for n in onnx.load(bundle / PLAIN).graph.node if n.op_type in ("MaxPool", "AveragePool")]
    assert all(known[node.input[0]] == known[node.output[0]] for node in pools)


def test_native_layers_leave_nothing_in_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = compiled(alive(Native(), DATA), tmp_path)
    assert float16_layers(folder) == set()
    assert "layerPrecisions" not in (folder / "trtexec.txt").read_text(encoding="utf-8")
    known = scales(folder)
    # A result has a scale of its own: only what is added shares one.
    assert known["left.2"] == known["max_pool2d"] != known["relu"]
    sums = [n for n in onnx.load(folder / PLAIN).graph.node if n.op_type in SCORES]
    assert len(sums) == 3


def test_layers_for_the_gpu_are_listed_and_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = compiled(alive(Mixed(), DATA), tmp_path)
    half = float16_layers(folder)
    nodes = {node.name: node for node in onnx.load(folder / PLAIN).graph.node}
    assert half <= nodes.keys()
    assert {"Mul"} <= {nodes[name].op_type for name in half}
    assert not {"Conv", "ConvTranspose", "Gemm"} & {nodes[name].op_type for name in half}
    said = {note["layer"] for note in fxc.load(folder).report["notes"] if note["by"] == "jetson-int8-dla"}
    assert {"mul", "silu", "norm"} <= said <= on_gpu(folder)
    assert "left.2" not in said
    assert f'--layerPrecisions="$(cat {LAYERS})"' in (folder / "trtexec.txt").read_text(encoding="utf-8")


def on_gpu(folder: Path) -> set[str]:
    """Layers that the compile said to run there, or to be float."""
    report = fxc.load(folder).report
    notes = {note["layer"] for note in report["notes"] if note["by"] == "jetson-int8-dla"}
    return notes | {row["layer"] for row in report["float_tensors"]}


@pytest.mark.parametrize("name", [PLAIN, "model.typed.onnx"])
def test_the_rule_checker(bundle: Path, name: str) -> None:
    """What it finds is on layers that the compile left to the GPU, and nothing that TensorRT would refuse.

    A leaky ReLU is a step of its own: the scale behind it says nothing about what is in front. Casts stand in front of layers
    that are on the GPU.
    """
    gpu = on_gpu(bundle)
    for version in ("8.5", "10.3") if name == PLAIN else ("11.4.1",):
        found = check_file(bundle / name, tensorrt=version, dla=True)
        assert [f for f in found if f.severity == "error"] == []
        elsewhere = [f for f in found if f.rule != "before-activation" and "/cast." not in f.node]
        places = {f.node.split("/")[0] for f in elsewhere}
        assert places <= gpu
        assert bool(places) == bool(gpu)


def test_a_layer_that_the_user_keeps_in_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = compiled(alive(Native(), DATA), tmp_path, keep_float=["left.2"])
    assert "left.2" in {name.split("/")[0] for name in float16_layers(folder)}
    for a, b in zip(run(folder / "model.onnx", DATA[:2]), run(meant(folder).SerializeToString(), DATA[:2])):
        assert sqnr_db(a, b) > 60.0


class Fork(nn.Module):
    """A float tensor that two layers code, each for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(x) * torch.exp(x)
        return self.left(x) + self.right(x)


def test_a_tensor_has_one_scale_in_the_cache_and_the_bundle_says_which(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = {"left": {"observer": "percentile", "percentile": 90.0}}
    folder = compiled(Fork().eval(), tmp_path, layers=words)
    graph = onnx.load(folder / "model.onnx").graph
    numbers = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    coded = [numbers[n.input[1]] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "mul"]
    assert len(set(map(float, coded))) == 2
    assert np.float32(scales(folder)["mul"]) == max(coded)
    assert any("mul has two scales" in note for note in fxc.load(folder).manifest["notes"])


class Awkward(nn.Module):
    """An input that is returned, a tensor that is returned twice and read too, a sum with itself, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.register_buffer("table", torch.randn(1, 16, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = torch.relu(self.conv(x))
        return x, y, y, y + y, y + self.table, y.argmax(1)


def test_awkward_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Awkward().eval()
    folder = compiled(net, tmp_path)
    assert scales(folder).keys() == float_tensors(onnx.load(folder / PLAIN))
    with torch.no_grad():
        want = net(DATA[:2])
    for a, b, c in zip(
        want, run(folder / "model.onnx", DATA[:2]), run(folder / PLAIN, DATA[:2]), strict=True
    ):
        if a.is_floating_point():
            assert sqnr_db(a, b) > 30.0
            assert sqnr_db(a, c) > 30.0


def test_a_dynamic_batch_is_refused_with_the_way_out() -> None:
    with pytest.raises(LegalityError, match="jetson-int8-dla cannot take") as caught:
        fxc.compile(Native().eval(), "jetson-int8-dla", example_inputs=(DATA[:2],), calibration_data=[DATA])
    assert "--static-batch" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "files", "head"),
    [
        ({"jetpack": "5.1"}, {"model.onnx", PLAIN}, "TRT-8500"),
        ({"jetpack": "6.2"}, {"model.onnx", PLAIN}, "TRT-100300"),
        ({"jetpack": "7.2"}, {"model.typed.onnx"}, ""),
        ({}, {"model.onnx", PLAIN, "model.typed.onnx"}, "TRT-8500"),
    ],
)
def test_versions(words: dict[str, str], files: set[str], head: str, tmp_path: Path) -> None:
    folder = compiled(nn.Conv2d(3, 16, 3).eval(), tmp_path, **words)
    assert {file.name for file in folder.glob("*.onnx")} == files
    cache = folder / "model.dla.cache"
    assert cache.exists() == bool(head)
    assert not head or cache.read_text().startswith(f"{head}-EntropyCalibration2\n")
    commands = [c for c in (folder / "trtexec.txt").read_text().splitlines() if not c.startswith("#")]
    assert all("--useDLACore=0 --allowGPUFallback" in command for command in commands)
    assert [("--calib=model.dla.cache" in c) == (PLAIN in c) for c in commands] == [True] * len(commands)
    assert fxc.load(folder)(DATA[:2]).shape == (2, 16, 30, 30)


def test_the_cache_format() -> None:
    """Digits of float32 as everybody knows them."""
    given = {"a b": 1.0, "layer1.0: x": 0.5, "z": 2.0**-10, "tiny": float(np.float32(1e-30))}
    text = cache_text(given, "10.3")
    assert text.splitlines()[:3] == [
        "TRT-100300-EntropyCalibration2",
        "a b: 3f800000",
        "layer1.0: x: 3f000000",
    ]
    assert "\nz: 3a800000\n" in text
    assert "\ntiny: 0da24260\n" in text
    assert read_cache(text) == given
    assert precisions_text(["a/Softmax", "b"]) == "a/Softmax:fp16,b:fp16"


@pytest.mark.parametrize(
    "text",
    ["", "x: 3f800000", "TRT-8500-EntropyCalibration2\nx 3f80", "TRT-8500-EntropyCalibration2\nx: 3f8"],
)
def test_what_is_no_cache(text: str) -> None:
    with pytest.raises(ArtifactError):
        read_cache(text)
