"""Compiled for a Rockchip NPU with the real toolkit: what its simulator answers, and how a build ends badly."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxc
from fxc import catalogue
from fxc.backends.rknn.toolchain import RKNN
from fxc.compiler.errors import ToolchainError, UsageError
from fxc.compiler.toolchain.environment import environment, status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        status(environment(RKNN)).state != "ready", reason=f"needs RKNN-Toolkit2: {RKNN.command}"
    ),
]


class Layers(nn.Module):
    """Every kind of convolution and what surrounds one, side by side on one input; each result is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.other = nn.Conv2d(3, 16, 3, padding=1)
        self.point, self.grouped = nn.Conv2d(16, 24, 1), nn.Conv2d(16, 32, 3, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False)
        self.strided, self.dilated = nn.Conv2d(16, 8, 3, 2), nn.Conv2d(16, 8, 3, dilation=3)
        self.up, self.up_groups = (
            nn.ConvTranspose2d(16, 8, 4, 2, 1),
            nn.ConvTranspose2d(16, 8, 2, 2, groups=2),
        )
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        c, d = self.stem(x), self.other(x)
        return {
            "point": self.point(c),
            "grouped": self.grouped(c).relu(),
            "depthwise": F.relu6(self.depthwise(c)),
            "strided": F.silu(self.strided(c)),
            "dilated": F.hardswish(self.dilated(c)),
            "up": self.up(c),
            "up_groups": self.up_groups(c),
            "linear": self.fc(F.adaptive_avg_pool2d(c, 1).flatten(1)),
            "sum": (c + d).relu(),
            "product": c * d.sigmoid(),
            "joined": torch.cat([c, F.max_pool2d(d, 3, 1, 1)], 1),
            "pooled": F.avg_pool2d(c, 3, 1, 1),
            "larger": F.interpolate(c, scale_factor=2),
        }


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> fxc.Artifact:
    torch.manual_seed(0)
    data = torch.randn(16, 3, 16, 16)
    made = fxc.compile(
        Layers().eval(), "rk3588-int8", example_inputs=(data[:1],), calibration_data=data.split(8)
    )
    made.save(tmp_path_factory.mktemp("rknn") / "bundle")
    return made


def test_the_simulator_gives_the_codes_of_onnx_runtime(artifact: fxc.Artifact) -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)).numpy()
    meant = artifact.runner()([x])
    runner = catalogue.room(artifact.target).load(artifact.model.with_name("model.rknn"), artifact.target)
    simulated = runner([x])
    names = [row["name"] for row in artifact.manifest["outputs"]]
    for name, a, b in zip(names, meant, simulated, strict=True):
        codes = np.unique(a)
        step = np.diff(codes)[np.diff(codes) > 1e-6].min()
        assert len(codes) > 8, name
        assert (np.abs(a - b) < step / 2).mean() >= 0.999, name


def test_the_report_has_both_files_and_what_the_compiler_said(artifact: fxc.Artifact) -> None:
    rows = artifact.report["accuracy"]["outputs"]
    assert {row.get("file", "") for row in rows} == {"", "model.rknn"}
    assert all(row["lost_db"] < 1.0 for row in rows)
    assert "model.rknn in RKNN-Toolkit2's simulator of RK3588" in artifact.report["accuracy"]["how"]
    kernels = artifact.report["kernels"]
    assert kernels["mac_coverage"] == 1.0
    assert not kernels["planned"]
    assert all(text.endswith("int8 on the NPU") for text in kernels["by_implementation"])
    assert artifact.report["tools"]["rknn-toolkit2"] == "2.5.0"


def test_the_manifest_says_which_files_differ_between_runs(artifact: fxc.Artifact) -> None:
    assert "model.rknn, rknn.log" in artifact.manifest["determinism"]
    assert (artifact.path / "model.rknn").read_bytes()[:4] == b"RKNN"
    fxc.load(artifact.path)


def test_the_kit_builds_the_same_network(artifact: fxc.Artifact, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(artifact.path, tmp_path / "bundle"))
    (bundle / "model.rknn").unlink()
    env = environment(RKNN)
    command = [str(env.python), str(bundle / "build_rknn.py")]
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    done = subprocess.run(
        command, cwd=tmp_path, env=env.variables(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    made = Path(f"{bundle}.device", "model.rknn")
    assert str(made.parent) in done.stdout
    assert abs((artifact.path / "model.rknn").stat().st_size - made.stat().st_size) < 4096


LITE = """
import numpy as np, onnxruntime
class RKNNLite:
    def load_rknn(self, path):
        self.path = path
        return 0
    def init_runtime(self):
        self.session = onnxruntime.InferenceSession(self.path)
        return 0
    def inference(self, inputs, data_format):
        assert data_format == ["nchw"] * len(inputs)
        return self.session.run(None, {i.name: x for i, x in zip(self.session.get_inputs(), inputs)})
"""


def test_the_runner_for_the_board(artifact: fxc.Artifact, tmp_path: Path) -> None:
    """A stand-in for the board's library computes; what is fed and what is written are the script's."""
    package = tmp_path / "rknnlite"
    package.mkdir()
    (package / "api.py").write_text(LITE)
    answers = tmp_path / "device"
    command = [sys.executable, str(artifact.path / "run_rknn.py"), "--model", str(artifact.model)]
    subprocess.run(
        [*command, "--output", str(answers)], env={"PYTHONPATH": str(tmp_path)}, check=True, timeout=120
    )
    names = [row["name"] for row in artifact.manifest["outputs"]]
    assert {path.stem for path in answers.iterdir()} == set(names)
    for name, want in zip(names, artifact.golden.outputs):
        np.testing.assert_allclose(np.load(answers / f"{name}.npy"), want.numpy(), rtol=0.1, atol=0.1)


def test_float16(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    artifact = fxc.compile(net, "rk3576-fp16", example_inputs=(torch.randn(1, 3, 8, 8),))
    rows = {row.get("file", ""): row["file_db"] for row in artifact.report["accuracy"]["outputs"]}
    assert rows[""] > 100
    assert 45 < rows["model.rknn"] < 90
    assert not artifact.model.with_name("model.toolkit.onnx").exists()


def test_sixteen_bits_take_our_ranges(tmp_path: Path) -> None:
    """Of inputs far apart the toolkit sees noise only: with ranges of its own it would cut them off."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4)).eval()
    data = torch.randn(8, 3, 8, 8) * torch.tensor([0.1, 1.0, 30.0])[:, None, None]
    artifact = fxc.compile(net, "rk3588-int16", example_inputs=(data[:1],), calibration_data=[data])
    rows = {row.get("file", ""): row["file_db"] for row in artifact.report["accuracy"]["outputs"]}
    assert rows[""] > 70
    assert rows["model.rknn"] > 45
    assert all("int16" in text for text in artifact.report["kernels"]["by_implementation"])
    low, high = json.loads((artifact.path / "model.ranges.json").read_text())["input"]
    assert -low == high
    assert float(data.abs().max()) <= high * 1.0001 < 2.0001 * float(data.abs().max())


def test_a_layer_kept_in_float_is_float16_on_the_npu() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()
    data = torch.randn(8, 3, 12, 12)
    artifact = fxc.compile(
        net, "rk3588-int8", example_inputs=(data[:1],), calibration_data=[data], keep_float=["2"]
    )
    assert artifact.report["kernels"]["float_layers"] == ["2"]
    assert artifact.report["kernels"]["integer"] == 2


def test_over_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXC_TOOLCHAIN_SECONDS", "1")
    with pytest.raises(ToolchainError, match="rknn") as raised:
        fxc.compile(nn.Conv2d(3, 4, 3), "rk3588-int8", example_inputs=(torch.randn(1, 3, 8, 8),))
    assert "within 1 s" in raised.value.what
    assert "FXC_TOOLCHAIN_SECONDS" in str(raised.value.fix)
    assert Path(str(raised.value.where)).is_file()
    monkeypatch.setenv("FXC_TOOLCHAIN_SECONDS", "soon")
    data = iter([torch.randn(8, 3, 8, 8)])
    with pytest.raises(UsageError, match="FXC_TOOLCHAIN_SECONDS"):
        fxc.compile(
            nn.Conv2d(3, 4, 3),
            "rk3588-int8",
            example_inputs=(torch.randn(1, 3, 8, 8),),
            calibration_data=data,
        )
    assert next(data, None) is not None, "said before the data is read"


def test_a_broken_file_is_an_error_with_its_log(artifact: fxc.Artifact, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(artifact.path, tmp_path / "bundle"))
    (bundle / "model.toolkit.onnx").write_bytes(b"\x08\x09garbage")
    runner = catalogue.room(artifact.target).load(bundle / "model.rknn", artifact.target)
    with pytest.raises(ToolchainError, match="rknn") as raised:
        runner([np.zeros((1, 3, 16, 16), np.float32)])
    assert Path(str(raised.value.where)).is_file()
    assert json.loads(json.dumps(raised.value.to_json()))["why"]
