"""The whole command line on a small net: compile, inspect, run, verify, lint, and what each refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fxc.tools.cli.main import main

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    example_input_array = torch.zeros(1, 3, 16, 16)

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))

def make():
    torch.manual_seed(0)
    return Net()

def unsupported():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.svd(x).S
    return Odd()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli")
    (root / "net.py").write_text(SOURCE)
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        (root / "images" / str(i % 4)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / str(i % 4) / f"{i}.png")
    np.save(root / "x.npy", rng.normal(size=(5, 3, 16, 16)).astype(np.float32))
    return root


@pytest.fixture(scope="module")
def bundle(workspace: Path) -> Path:
    path = workspace / "bundle"
    words = ["compile", f"{workspace}/net.py:make", "-t", "cpu-int8", "-o", str(path), "--no-verify"]
    assert main([*words, "--calibration-data", str(workspace / "images"), "--size", "16"]) == 0
    return path


def document(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 0) -> dict[str, Any]:
    """The one JSON document that a command prints."""
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_compile_reports_what_it_did(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = workspace / "second"
    words = ["compile", f"{workspace}/net.py:make", "-t", "ort-int8", "-o", str(out), "--keep-float", "head"]
    told = document(capsys, [*words, "--calibration-data", str(workspace / "x.npy"), "--name", "tiny"])
    assert told["artifact"] == str(out)
    assert told["model"]["name"] == "tiny"
    assert told["target"]["name"] == "ort-int8"
    assert any("head" in str(row["layer"]) for row in told["float_tensors"])
    assert (out / "manifest.json").is_file()


def test_an_existing_bundle_is_kept_unless_forced(
    workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    words = ["compile", f"{workspace}/net.py:make", "-t", "cpu-fp32", "-o", str(bundle)]
    assert document(capsys, words, 1)["error"] == "ArtifactError"
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_bundle_may_take_the_bytes_of_images(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = workspace / "bytes", str(workspace / "images" / "0" / "0.png")
    words = ["compile", f"{workspace}/net.py:make", "-t", "ort-int8", "-o", str(out), "--size", "16"]
    told = document(capsys, [*words, "--calibration-data", str(workspace / "images"), "--image-input", "bgr"])
    assert told["artifact"] == str(out)
    y = workspace / "bytes.npy"
    document(capsys, ["run", str(out), picture, "-o", str(y)])
    import fxc

    bundle = fxc.load(out)
    pixels = np.asarray(Image.open(picture).resize((22, 18), Image.Resampling.BILINEAR))[1:17, 3:19, ::-1]
    handed = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
    torch.testing.assert_close(torch.from_numpy(np.load(y)), bundle(handed), rtol=0.05, atol=0.05)
    # The float model is judged on the same images, normalised.
    told = document(capsys, ["verify", str(out), "--against", f"{workspace}/net.py:make"])
    assert told["verified"] is True
    told = document(capsys, [*words[:-2], "--image-input", "bgr", "--force"], 1)
    assert "needs to know how an image is normalised" in told["what"]


def test_inspect_shows_the_inside(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, ["inspect", str(bundle)])
    assert told["hashes"] == "match"
    assert told["report"]["target"]["name"] == "cpu-int8"
    assert told["manifest"]["preprocessing"]["crop"] == [16, 16]
    assert told["bytes"]["manifest.json"] > 0
    assert main(["inspect", str(bundle), "--layers"]) == 0
    text = capsys.readouterr().out
    assert "features.0" in text
    assert "head" in text


def test_run_on_an_array_equals_the_artifact(
    workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fxc

    out = workspace / "y.npy"
    told = document(capsys, ["run", str(bundle), str(workspace / "x.npy"), "-o", str(out)])
    expected = fxc.load(bundle)(torch.from_numpy(np.load(workspace / "x.npy")))
    assert np.array_equal(np.load(out), expected.numpy())
    (scores,) = told["outputs"].values()
    assert [row[0]["class"] for row in scores["top"]] == expected.argmax(1).tolist()
    assert (
        "exists already"
        in document(capsys, ["run", str(bundle), str(workspace / "x.npy"), "-o", str(out)], 1)["what"]
    )


def test_run_on_images_prints_classes(
    workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = workspace / "images" / "0" / "0.png"
    assert main(["run", str(bundle), str(image)]) == 0
    assert str(image) in capsys.readouterr().out
    assert main(["run", str(bundle), str(workspace / "images")]) == 0
    assert "2 more samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 15, 16), np.float32), "shape"),
        (np.zeros((2, 3, 16, 16), np.int64), "dtype"),
        (np.zeros((2, 16), np.float32), "shape"),
    ],
)
def test_run_refuses_what_does_not_fit(
    tmp_path: Path, bundle: Path, array: np.ndarray, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "bad.npy", array)
    told = document(capsys, ["run", str(bundle), str(tmp_path / "bad.npy"), "-o", str(tmp_path / "y.npz")], 1)
    assert told["error"] == "InputError"
    assert message in told["what"]
    assert not (tmp_path / "y.npz").exists()


def test_verify_against_the_recorded_outputs_and_the_model(
    workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, ["verify", str(bundle), "--against", f"{workspace}/net.py:make"])
    assert told["verified"]
    assert {c["what"] for c in told["checks"]} == {"recorded float output", f"{workspace}/net.py:make"}
    assert all(c["sqnr_db"] > 15 for c in told["checks"])


def test_verify_fails_against_another_model(
    workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = workspace / "other.py"
    other.write_text(SOURCE.replace("manual_seed(0)", "manual_seed(1)"))
    told = document(capsys, ["verify", str(bundle), "--against", f"{other}:make"], 1)
    assert not told["verified"]


def test_verify_counts_top_1(workspace: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "verify",
        str(bundle),
        "--against",
        f"{workspace}/net.py:make",
        "--data",
        str(workspace / "images"),
    ]
    labelled = document(capsys, words)["labelled"]
    assert labelled["samples"] == 12
    assert set(labelled["top1"]) == {"artifact", "quantized graph", "float model"}
    assert labelled["agreement_with_artifact"]["quantized graph"] >= 11 / 12


def test_a_tampered_bundle_is_refused_by_every_command(
    workspace: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    report = copy / "report.json"
    report.write_text(report.read_text().replace("cpu-int8", "cpu-int9"))
    for words in (["inspect"], ["verify"], ["run"]):
        extra = [str(workspace / "x.npy")] if words == ["run"] else []
        told = document(capsys, [*words, str(copy), *extra], 1)
        assert told["error"] == "ArtifactError"
        assert "report.json" in json.dumps(told)


def test_lint_tells_what_fits(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, ["lint", f"{workspace}/net.py:make", "-t", "cpu-int8"])["fits"]
    words = ["lint", f"{workspace}/net.py:unsupported", "-t", "cpu-int8", "--input-shape", "1,3,16,16"]
    told = document(capsys, words, 1)
    assert not told["fits"]
    assert "svd" in json.dumps(told["violations"])


def test_an_unsupported_operator_stops_a_compile(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = workspace / "odd"
    words = ["compile", f"{workspace}/net.py:unsupported", "-t", "cpu-int8", "--input-shape", "1,3,16,16"]
    told = document(capsys, [*words, "-o", str(out)], 1)
    assert told["error"] == "LegalityError"
    assert not out.exists()


def test_unknown_passes_are_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "compile",
        f"{workspace}/net.py:make",
        "-t",
        "cpu-int8",
        "-o",
        str(workspace / "no"),
        "--skip",
        "fold_batch_nrm",
    ]
    assert "no pass" in document(capsys, words, 1)["what"]


def test_a_cut_graph_with_a_fixed_batch(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = workspace / "cut"
    words = ["compile", f"{workspace}/net.py:make", "-t", "ort-int8", "-o", str(out), "--no-verify"]
    told = document(
        capsys, [*words, "--outputs", "features.4", "--batch", "2", "--dump", str(workspace / "dump")]
    )
    (output,) = told["model"]["outputs"]
    assert output["shape"] == [2, 16, 7, 7]
    assert (workspace / "dump" / "index.html").is_file()
    told = document(capsys, ["run", str(out), str(workspace / "images" / "0"), "--size", "16"])
    (output,) = told["outputs"].values()
    assert output["shape"] == [3, 16, 7, 7], "the fourth image only fills the second batch up"
    words = ["verify", str(out), "--against", f"{workspace}/net.py:make"]
    assert document(capsys, [*words, "--outputs", "features.4"])["verified"]
    assert "--outputs" in document(capsys, words, 1)["fix"]


def test_an_exported_program_from_a_file(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fxc.tools.data.pyfile import load_attribute

    model = load_attribute(workspace / "net.py", "make")().eval()
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 16, 16),)), workspace / "net.pt2")
    out = workspace / "from_pt2"
    document(capsys, ["compile", f"{workspace}/net.pt2", "-t", "ort-fp32", "-o", str(out), "--no-verify"])
    told = document(capsys, ["verify", str(out), "--against", f"{workspace}/net.py:make"])
    assert min(check["sqnr_db"] for check in told["checks"]) > 90


def test_a_skipped_image_is_a_warning_and_a_bad_folder_an_error(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(workspace / "images", tmp_path / "images")
    (tmp_path / "images" / "0" / "0.png").write_bytes(b"nothing")
    words = ["compile", f"{workspace}/net.py:make", "-t", "ort-int8", "--size", "16", "--no-verify"]
    data = ["--calibration-data", str(tmp_path / "images")]
    told = document(capsys, [*words, *data, "-o", str(tmp_path / "good")])
    assert "0.png" in " ".join(told["warnings"])
    assert told["calibration_data"].startswith("11 images")
    (tmp_path / "images" / "1" / "1.png").write_bytes(b"nothing")
    told = document(capsys, [*words, *data, "-o", str(tmp_path / "bad")], 1)
    assert told["error"] == "CalibrationError"
    assert not (tmp_path / "bad").exists()
