"""Our placement beside nvidia-modelopt's ONNX quantizer: every place where they differ has a reason in ``modelopt_places.py``.

nvidia-modelopt pins older versions of ONNX and ONNX Runtime than ours, so it lives in an environment of its own, which
``FXC_MODELOPT`` names; the room's README says how it is made. The comparison itself is tested without it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import fxc
from tests.backends.tensorrt.modelopt_places import OURS, THEIRS, File, Place, kinds, row, unexplained

PYTHON = os.environ.get("FXC_MODELOPT", "")
SIDE = 32


class Residual(nn.Module):
    """Max pooling, a residual sum of two convolutions and one of a convolution and the block's input, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 16, 3, 2, 1), nn.MaxPool2d(3, 2, 1)
        self.one, self.two = nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 1, 1)
        self.short, self.three = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, 1, 1)
        self.head = nn.Linear(32, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        x = torch.relu(self.two(torch.relu(self.one(x))) + self.short(x))
        x = torch.relu(self.three(x) + x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Branches(nn.Module):
    """A concat, a narrow depthwise convolution, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.left, self.right = nn.Conv2d(32, 36, 1), nn.Conv2d(32, 36, 3, 1, 1)
        self.depthwise, self.point = nn.Conv2d(36, 36, 3, 1, 1, groups=36), nn.Conv2d(72, 32, 1)
        self.down, self.up, self.last = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.depthwise(torch.relu(self.right(x))))], 1)
        x = F.silu(self.point(x))
        x = self.last(x * self.up(torch.relu(self.down(F.adaptive_avg_pool2d(x, 1)))).sigmoid())
        return x.mean((2, 3))


def emitted(net: nn.Module, target: str, folder: Path) -> Path:
    torch.manual_seed(0)
    data = torch.randn(4, 3, SIDE, SIDE)
    words = {} if target.endswith("fp32") else {"calibration_data": [data], "equalize": False}
    artifact = fxc.compile(net.eval(), target, example_inputs=(data[:1],), verify=False, **words)
    return Path(artifact.save(folder)) / "model.onnx"


@pytest.mark.skipif(not PYTHON, reason="nvidia-modelopt's own environment: FXC_MODELOPT names its Python")
@pytest.mark.parametrize("net", [Residual, Branches])
def test_every_difference_has_a_reason(net: type[nn.Module], tmp_path: Path) -> None:
    model = net()
    ours = emitted(model, "jetson-int8", tmp_path / "ours")
    source = emitted(model, "ort-fp32", tmp_path / "float")
    script = Path(__file__).with_name("modelopt_quantize.py")
    command = [PYTHON, script, source, tmp_path / "theirs.onnx", str(SIDE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    mine, theirs = File(ours), File(tmp_path / "theirs.onnx")
    assert unexplained(mine, theirs) == [], row(net.__name__, mine, theirs)
    convolutions = {p.node for p in mine.activations & theirs.activations if p.op == "Conv"}
    assert len(convolutions) >= 3, "most of the net is coded by both"
    assert kinds(mine, theirs, OURS)[0] or kinds(theirs, mine, THEIRS)[0]


def quantized(tmp_path: Path, name: str, coded: set[str]) -> File:
    """``a = Relu(x)``, ``c = Conv(a, w)``, ``p = MaxPool(c)``, ``m = p * a``; values in ``coded`` go through a pair."""
    nodes, seen = [], {"x"}
    for op, reads, writes in (("Relu", ["x"], "a"), ("Conv", ["a", "w"], "c"), ("MaxPool", ["c"], "p"), ("Mul", ["p", "c"], "m")):  # fmt: skip
        inputs = [f"{r}.d" if r in coded else r for r in reads]
        words = {"kernel_shape": [1, 1]} if op == "MaxPool" else {}
        nodes.append(helper.make_node(op, inputs, [writes], writes, **words))
        seen.add(writes)
        if writes in coded:
            nodes.append(
                helper.make_node("QuantizeLinear", [writes, "s", "z"], [f"{writes}.q"], f"{writes}/q")
            )
            nodes.append(helper.make_node("DequantizeLinear", [f"{writes}.q", "s", "z"], [f"{writes}.d"], f"{writes}/d"))  # fmt: skip
    pair = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["w.q"], "w/q"),
        helper.make_node("DequantizeLinear", ["w.q", "s", "z"], ["w.d"], "w/d"),
    ]
    weights = [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")]
    weights += [numpy_helper.from_array(np.array(1, np.float32), "s"), numpy_helper.from_array(np.array(0, np.int8), "z")]  # fmt: skip
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 4, 4]) for n in ("x", "m")]
    model = helper.make_model(helper.make_graph([*(pair if "w" in coded else []), *nodes], "g", ends[:1], ends[1:], weights))  # fmt: skip
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / name)
    return File(tmp_path / name)


def test_places_are_told_apart(tmp_path: Path) -> None:
    one, two = quantized(tmp_path, "one.onnx", {"a", "w"}), quantized(tmp_path, "two.onnx", {"a", "w", "c"})
    assert one.activations == {Place("c", "Conv", 0)}
    assert one.weights == two.weights == {Place("c", "Conv", 1)}
    assert (one.pairs, two.pairs) == (1, 2)
    assert two.source(Place("c", "Conv", 0)) == "Relu"
    found, bare = kinds(two, one, THEIRS)
    assert dict(found) == {"in front of max pooling": 1, "an operand of a product": 1}
    assert bare == []


def test_a_difference_without_a_reason_is_seen(tmp_path: Path) -> None:
    one, two = quantized(tmp_path, "one.onnx", {"w"}), quantized(tmp_path, "two.onnx", {"a", "w"})
    assert unexplained(one, two) == unexplained(two, one) == [Place("c", "Conv", 0)]
    assert "UNEXPLAINED Conv of c" in row("n", one, two)
