"""``--jetpack`` and ``--tensorrt``: the bundle has what that version takes and no more, judged by the rule checker's own tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

import fxc
from fxc import catalogue
from fxc.backends.tensorrt.checker import check_file
from fxc.compiler.errors import UsageError
from fxc.tools.cli.main import main

PLAIN, TYPED = "model.onnx", "model.typed.onnx"
X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Operators whose ONNX forms depend on the opset among them: a layer norm is one operator from 17 on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.stem(x)).flatten(2).transpose(1, 2)
        return self.head(self.norm(x).mean(1))


@pytest.fixture(scope="module")
def program() -> Any:
    torch.manual_seed(0)
    return fxc.capture(Net().eval(), (X,))


def bundle(program: Any, target: str, folder: Path, **words: str) -> Path:
    return Path(fxc.compile(program, target, calibration_data=[X], **words).save(folder / "bundle"))


@pytest.mark.parametrize(
    ("target", "words", "files", "versions"),
    [
        ("jetson-fp16", {"jetpack": "4.6"}, {PLAIN: 13}, ("8.0", "8.2")),
        ("jetson-int8", {"tensorrt": "8.2"}, {PLAIN: 13}, ("8.2",)),
        ("jetson-int8", {"jetpack": "5.0"}, {PLAIN: 17}, ("8.4",)),
        ("jetson-int8", {"jetpack": "5.1.2"}, {PLAIN: 17}, ("8.5.2",)),
        ("jetson-int8", {"jetpack": "6.0"}, {PLAIN: 17}, ("8.6",)),
        ("jetson-int8", {"jetpack": "6.2"}, {PLAIN: 17}, ("10.3",)),
        ("jetson-int8", {"jetpack": "6.2", "tensorrt": "10.3"}, {PLAIN: 17}, ("10.3",)),
        ("jetson-int8", {"jetpack": "7.2", "tensorrt": "11.4"}, {TYPED: 19}, ("11.4.1",)),
        ("tensorrt-int8", {"tensorrt": "11.1"}, {TYPED: 19}, ("11.1",)),
        ("jetson-int8", {"jetpack": "7.2"}, {PLAIN: 17, TYPED: 19}, ()),
        ("jetson-int8", {}, {PLAIN: 17, TYPED: 19}, ()),
    ],
)
def test_a_bundle_has_what_its_version_takes(
    program: Any,
    tmp_path: Path,
    target: str,
    words: dict[str, str],
    files: dict[str, int],
    versions: tuple[str, ...],
) -> None:
    folder = bundle(program, target, tmp_path, **words)
    assert {file.name: onnx.load(file).opset_import[0].version for file in folder.glob("*.onnx")} == files
    for version in versions:
        found = [f for name in files for f in check_file(folder / name, tensorrt=version)]
        assert [f for f in found if f.severity == "error"] == []
    said = (folder / "trtexec.txt").read_text(encoding="utf-8")
    built = json.loads((folder / "build.json").read_text(encoding="utf-8"))["files"]
    assert [entry["onnx"] for entry in built] == list(files)
    assert all((f"--onnx={name} " in said) == (name in files) for name in (PLAIN, TYPED))


def test_a_narrowed_bundle_says_so_and_runs(program: Any, tmp_path: Path) -> None:
    folder = bundle(program, "jetson-int8", tmp_path, tensorrt="11.4")
    loaded = fxc.load(folder)
    assert loaded.manifest["target"]["made_for"] == "TensorRT 11.4"
    assert loaded.manifest["target"]["opset"] == 19
    assert "made for TensorRT 11.4" in loaded.report["target"]["notes"]
    assert [row.get("file") for row in loaded.report["accuracy"]["outputs"]] == [None]
    want = torch.from_numpy(loaded.golden.outputs[0].numpy())
    assert torch.equal(loaded(X)[: len(want)], want)


def test_of_several_targets_those_that_know_the_word_are_narrowed(program: Any) -> None:
    made = fxc.compile(program, ["cpu-fp32", "jetson-fp16", "tensorrt-fp16"], jetpack="6.2")
    assert [a.manifest["target"]["made_for"] for a in made.values()] == ["", "JetPack 6.2", ""]
    assert [len(list(a.path.glob("*.onnx"))) for a in made.values()][1:] == [1, 2]


WRONG = [
    ("jetson-int8", {"jetpack": "4.6"}, "jetson-fp16"),
    ("jetson-int8", {"jetpack": "4.6.1"}, "tensorrt 8.2"),
    ("jetson-int8", {"jetpack": "4.6", "tensorrt": "8.2"}, "jetson-fp16"),
    ("jetson-int8", {"jetpack": "5.3"}, "known: 4.6, 5.0, 5.1, 6.0, 6.1, 6.2, 7.0, 7.2"),
    ("jetson-int8", {"jetpack": "6"}, "no JetPack '6'"),
    ("jetson-int8", {"jetpack": ""}, "no JetPack ''"),
    ("jetson-int8", {"jetpack": "v6.2"}, "no JetPack"),
    ("jetson-int8", {"jetpack": "6.2.1.1"}, "no JetPack"),
    ("jetson-int8", {"jetpack": "04.6"}, "no JetPack '04.6'"),
    ("jetson-int8", {"jetpack": "6.2."}, "no JetPack"),
    ("jetson-int8", {"tensorrt": "8.05"}, "no TensorRT"),
    ("jetson-int8", {"jetpack": "\u0666.\u0662"}, "no JetPack"),
    ("jetson-int8", {"tensorrt": "8.5\n"}, "no TensorRT"),
    ("jetson-int8", {"tensorrt": "9.1"}, "10.0 to 10.16"),
    ("jetson-int8", {"tensorrt": "10.17"}, "no TensorRT"),
    ("jetson-int8", {"tensorrt": "11.1"}, "11.4.1"),
    ("jetson-int8", {"tensorrt": "11.4.0"}, "11.4.1"),
    ("jetson-int8", {"jetpack": "6.2", "tensorrt": "11.4"}, "JetPack 6.2 has no TensorRT 11.4"),
    ("jetson-int8", {"jetpack": "5.1", "tensorrt": "8.6"}, "it is TensorRT 8.5"),
    ("jetson-int8-dla", {"jetpack": "4.6"}, "8.4 to 10.7"),
    ("jetson-int8-dla", {"jetpack": "7.0"}, "Thor has none"),
    ("jetson-int8-dla", {"tensorrt": "10.8"}, "jetson-int8, which runs on the GPU"),
    ("jetson-int8-dla", {"tensorrt": "11.3"}, "11.4.1"),
    ("tensorrt-int8", {"jetpack": "6.2"}, "choose of jetson-int8"),
    ("cpu-int8", {"tensorrt": "10.3"}, "says nothing about cpu-int8"),
    ("cpu-int8", {"jetpack": "none"}, "says nothing about cpu-int8"),
]


@pytest.mark.parametrize(("target", "words", "said"), WRONG)
def test_a_wrong_version_is_refused_before_capture(target: str, words: dict[str, str], said: str) -> None:
    for call in (fxc.compile, fxc.lint):
        with pytest.raises(UsageError) as caught:
            call(None, target, **words)
        assert said in str(caught.value)


@pytest.mark.parametrize("version", [6.2, 6, ["6.2"], ("6.2",), True, b"6.2"])
def test_a_version_is_text(version: Any) -> None:
    with pytest.raises(UsageError, match="as text"):
        fxc.compile(None, "jetson-int8", jetpack=version)


def test_no_list_of_targets_without_one_that_knows_the_word() -> None:
    with pytest.raises(UsageError, match="cpu-int8, ort-int8"):
        fxc.compile(None, ["cpu-int8", "ort-int8"], tensorrt="10.3")


@pytest.mark.parametrize("command", ["compile", "lint"])
def test_the_command_refuses_before_it_loads(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.py").write_text("raise RuntimeError('loaded')")
    code = main([command, f"{tmp_path}/m.py:net", "-t", "jetson-int8", "--jetpack", "4.6"])
    assert code == 1
    assert "jetson-fp16" in capsys.readouterr().err


def test_the_command_narrows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(3, 16, 3)\n")
    model = [f"{tmp_path}/m.py:net", "-t", "jetson-fp16", "--input-shape", "1,3,8,8", "--tensorrt", "10.3"]
    assert main(["compile", *model, "-o", str(tmp_path / "b")]) == 0
    assert [f.name for f in (tmp_path / "b").glob("*.onnx")] == [PLAIN]
    capsys.readouterr()
    assert main(["lint", *model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True


def test_targets_without_versions_have_no_words() -> None:
    words = {target.name: target.versions.words for target in catalogue.targets()}
    assert words["cpu-int8"] == ()
    assert words["jetson-fp16"] == ("jetpack", "tensorrt")
    assert words["tensorrt-fp16"] == ("tensorrt",)
