"""Two compiles of one input give the same bytes in every hashed file, in one process and in two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fxc
from tests.e2e.nets import built, content, data

SCRIPT = """
import sys
import fxc
from tests.e2e.nets import built, data
for name, target in (("multi_io", "cpu-int8"), ("transformer", "ort-int8")):
    model, x = built(name)
    fxc.compile(model, target, example_inputs=x).save(f"{sys.argv[1]}/{name}")
"""


def hashed(folder: Path) -> dict[str, bytes]:
    """Every file that the manifest lists, and the manifest."""
    return {name: file for name, file in content(folder).items() if not name.endswith("timings.json")}


@pytest.mark.parametrize(
    ("name", "target"), [("residual", "cpu-int8"), ("unet", "ort-int8"), ("shuffle", "cpu-bf16")]
)
def test_two_compiles_give_the_same_bytes(name: str, target: str) -> None:
    model, x = built(name)
    one, two = (fxc.compile(model, target, example_inputs=x, calibration_data=data(name)) for _ in range(2))
    files = hashed(one.path)
    assert {
        "report.html",
        "report.json",
        "model.onnx",
        "golden/outputs.safetensors",
        "program/program.json",
    } <= set(files)
    assert hashed(two.path) == files
    assert set(one.manifest["files"]) == set(files) - {"manifest.json"}


def test_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    running = []
    for seed in ("0", "12345"):
        (tmp_path / seed).mkdir()
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.getcwd(),
        }
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / seed)]
        running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    for process in running:
        _, told = process.communicate()
        assert process.returncode == 0, told
    one, two = hashed(tmp_path / "0"), hashed(tmp_path / "12345")
    different = [name for name in one if one[name] != two.get(name)]
    assert set(one) == set(two)
    assert different == []


def test_the_folder_does_not_show_in_the_files(tmp_path: Path) -> None:
    model, x = built("conv_chain")
    artifact = fxc.compile(model, "ort-int8", example_inputs=x)
    made = str(artifact.path).encode()
    artifact.save(tmp_path / "bundle")
    for name, file in hashed(tmp_path / "bundle").items():
        assert made not in file, name
        assert str(tmp_path).encode() not in file, name
