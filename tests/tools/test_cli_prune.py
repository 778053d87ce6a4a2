"""``fxc prune``: what it prints, writes and refuses, and that ``fxc compile`` takes what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fxc
from fxc.tools.cli.main import main

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.GroupNorm(4, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.body(x)).mean((2, 3)))

def make():
    torch.manual_seed(0)
    net = Net().eval()
    net.example_input_array = torch.randn(1, 3, 16, 16)
    return net
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prune")
    (root / "net.py").write_text(SOURCE)
    return root


def test_a_table_for_people(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune", f"{workspace}/net.py:make"]) == 0
    text = capsys.readouterr().out
    assert "16 -> 8*" in text
    assert "head is the model's output" in text
    assert "* fewer channels change" in text
    assert "parameters" in text


def test_data_for_programs_and_a_folder_for_compile(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = workspace / "small"
    words = ["prune", f"{workspace}/net.py:make", "--layer", "stem.*=0.25", "--align", "4"]
    assert main([*words, "-o", str(small), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (group,) = document["groups"]
    assert group["channels"] == [16, 12]
    assert document["macs"][1] < document["macs"][0]
    assert document["output"] == str(small)
    assert main(["compile", str(small), "-t", "ort-fp32", "-o", f"{workspace}/bundle", "--json"]) == 0
    x = torch.randn(2, 3, 16, 16)
    bundle, pruned = fxc.load(workspace / "bundle"), fxc.Pruned.load(small)
    torch.testing.assert_close(bundle(x), pruned.program(x), rtol=1e-4, atol=1e-5)
    assert bundle.report["model"]["name"] == "make"


def test_a_latency_is_called_an_estimate(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", f"{workspace}/net.py:make", "-t", "rk3588-int8", "--latency", "0.9", "--align", "1"]
    assert main(words) == 0
    assert "by a model of rk3588-int8, not measured" in capsys.readouterr().out


def test_a_plan_is_replayed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prune", f"{workspace}/net.py:make"]
    assert main([*words, "--criterion", "random", "--seed", "3", "-o", f"{workspace}/one"]) == 0
    assert main([*words, "--plan", f"{workspace}/one/plan.json", "-o", f"{workspace}/two"]) == 0
    one, two = (fxc.Pruned.load(workspace / name) for name in ("one", "two"))
    assert one.plan == two.plan
    assert torch.equal(one.program.tensor("stem.0.weight"), two.program.tensor("stem.0.weight"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ratio", "1"], "ratio must lie in [0, 1)"),
        (["--macs", "0.0001"], "cannot be reached"),
        (["--layer", "stem"], "--layer 'stem' cannot be read"),
        (["--protect", "stem.*"], "protected"),
        (["--protect", "nothing"], "matches 'nothing'"),
        (["--criterion", "taylor"], "needs data and a loss"),
        (["--plan", "/nowhere/plan.json"], "cannot read plan.json"),
        (["-t", "toaster-int8"], "toaster-int8"),
        (["--latency", "0.5"], "latency is of one target"),
        (["-t", "rk3588-int8", "--latency", "soon"], "latency 'soon' cannot be read"),
        (["-t", "cpu-int8", "--latency", "0.5"], "the speed of cpu-int8 is not known"),
    ],
)
def test_what_cannot_be_is_said(
    workspace: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", f"{workspace}/net.py:make", *words]) != 0
    assert text in capsys.readouterr().err


def test_an_output_folder_that_holds_something_stays(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "full").mkdir()
    (workspace / "full" / "mine.txt").write_text("mine")
    for force in ([], ["--force"]):
        assert main(["prune", f"{workspace}/net.py:make", "-o", f"{workspace}/full", *force]) == 1
    assert (workspace / "full" / "mine.txt").read_text() == "mine"
    capsys.readouterr()
