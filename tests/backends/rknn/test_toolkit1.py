"""Files for RV1126 and RV1109: ONNX of the toolkit's age, samples, and the script, run against a stand-in for the toolkit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxc


class Net(nn.Module):
    """What ONNX wrote otherwise before opset 13: sums, squeezes, splits and a softmax in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = F.hardswish(self.conv(x))
        a, b = y.split([3, 5], 1)
        return {
            "logits": self.fc(y.mean((2, 3))),
            "middle": y.softmax(1),
            "last": y.log_softmax(-1),
            "sum": a.sum(2).unsqueeze(2) + b[:, :1],
            "joined": torch.cat([b, a], 1).clamp(-1, 1),
            "larger": F.interpolate(y, scale_factor=2, mode="nearest"),
            "attention": F.scaled_dot_product_attention(y, y, y),
            "squeezed": y[:, :1].squeeze(1).amax(-1),
        }


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> fxc.Artifact:
    torch.manual_seed(0)
    made = fxc.compile(
        Net().eval(), "rv1126-int8", example_inputs=images(1), calibration_data=images().split(2)
    )
    made.save(tmp_path_factory.mktemp("toolkit1") / "bundle")
    return made


def test_the_file_is_as_old_as_the_toolkit_reads_and_says_the_same(artifact: fxc.Artifact) -> None:
    model = onnx.load(artifact.path / "model.onnx")
    assert [o.version for o in model.opset_import] == [11]
    assert model.ir_version == 6
    onnx.checker.check_model(model, full_check=True)
    torch.manual_seed(0)
    net, x = Net().eval(), images(1)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x.numpy()})))
    with torch.no_grad():
        wanted = net(x)
    for (name, y), got in zip(wanted.items(), found.values(), strict=True):
        np.testing.assert_allclose(got, y.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_samples_are_those_of_the_calibration_data(artifact: fxc.Artifact) -> None:
    request = json.loads((artifact.path / "build_rknn.json").read_text())
    assert request["config"]["target_platform"] == ["rv1126"]
    rows = [np.load(artifact.path / name, allow_pickle=False) for (name,) in request["dataset"]]
    np.testing.assert_array_equal(np.concatenate(rows).transpose(0, 3, 1, 2), images().numpy())


def test_nobody_says_that_anything_was_quantized_or_run(artifact: fxc.Artifact) -> None:
    assert any("not run here" in note for note in artifact.manifest["notes"])
    assert "not run" in artifact.target.notes
    assert not artifact.target.quantized
    assert artifact.target.host == "emitted"


def test_what_such_onnx_lacks_is_refused() -> None:
    class Newer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x >= x.mean(), x, 0.0)

    with pytest.raises(fxc.FxcError, match="cannot be written as ONNX opset 11") as refused:
        fxc.compile(Newer(), "rv1126-int8", example_inputs=images(1))
    assert "GreaterOrEqual" in str(refused.value)


def test_without_data_the_samples_are_synthesised() -> None:
    made = fxc.compile(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval(), "rv1109-int8", example_inputs=images(1)
    )
    request = json.loads((made.path / "build_rknn.json").read_text())
    assert len(request["dataset"]) == 8
    assert "synthesised" in made.report["calibration"]["said"] if made.report["calibration"] else True


def test_bytes_are_normalised_by_the_toolkit() -> None:
    how = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
    pixels = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    made = fxc.compile(
        net,
        "rv1126-int8",
        example_inputs=images(1),
        calibration_data=pixels,
        image_input="rgb",
        preprocessing=how,
    )
    request = json.loads((made.path / "build_rknn.json").read_text())
    assert request["model"] == "model.toolkit.onnx"
    np.testing.assert_allclose(request["config"]["mean_values"], [[127.5, 102, 76.5]], rtol=1e-6)
    np.testing.assert_allclose(request["config"]["std_values"], [[51, 63.75, 76.5]], rtol=1e-6)
    sample = np.load(made.path / request["dataset"][2][0])
    np.testing.assert_array_equal(sample, pixels[2:].permute(0, 2, 3, 1).numpy())
    assert made(pixels).shape == (3, 4, 6, 6)


STAND_IN = """
import json, os
class RKNN:
    def __init__(self, verbose): self.said = {}
    def config(self, **words): self.said["config"] = words
    def load_onnx(self, model): self.said["model"] = os.path.isfile(model); return 0
    def build(self, do_quantization, dataset):
        rows = open(dataset).read().split()
        self.said["quantized"], self.said["samples"] = do_quantization, [os.path.isfile(r) for r in rows]
        return FAILS
    def export_rknn(self, path): open(path, "w").write(json.dumps(self.said)); return 0
    def release(self): pass
"""


def run_kit(artifact: fxc.Artifact, folder: Path, *words: str, fails: int = 0) -> Any:
    (folder / "rknn").mkdir(parents=True)
    (folder / "rknn" / "api.py").write_text(STAND_IN.replace("FAILS", str(fails)))
    (folder / "rknn" / "__init__.py").touch()
    command = [sys.executable, str(artifact.path / "build_rknn.py"), *words]
    return subprocess.run(
        command, env={"PYTHONPATH": str(folder)}, cwd=folder, capture_output=True, text=True
    )


def test_the_script_asks_the_toolkit_for_it(artifact: fxc.Artifact, tmp_path: Path) -> None:
    done = run_kit(artifact, tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(Path(f"{artifact.path}.device", "model.rknn").read_text())
    assert said["config"]["quantized_dtype"] == "asymmetric_affine-u8"
    assert said["model"]
    assert said["quantized"]
    assert said["samples"] == [True] * 6
    fxc.load(artifact.path)


def test_the_script_says_which_step_failed(artifact: fxc.Artifact, tmp_path: Path) -> None:
    done = run_kit(artifact, tmp_path, fails=-1)
    assert done.returncode != 0
    assert "build failed with -1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_script_without_the_toolkit(artifact: fxc.Artifact, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(artifact.path / "build_rknn.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "needs rknn-toolkit 1.7" in done.stderr
