"""2:4 sparsity: the documented axis and no other, against a count by hand, and in the files that are emitted."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fxc
from fxc.backends.tensorrt.sparsity import is_two_of_four, sparse_layers

RNG = np.random.default_rng(0)


def pruned(weight: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """The two smaller of each four along ``axis`` set to zero, one group after the other."""
    rows = np.moveaxis(weight.copy(), axis, 0)
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        order = np.argsort(np.abs(group), axis=0)
        np.put_along_axis(group, order[: max(len(group) - 2, 0)], 0.0, axis=0)
    return np.moveaxis(rows, 0, axis)


@pytest.mark.parametrize("shape", [(8, 16, 3, 3), (6, 8, 1, 1), (5, 12, 7)])
def test_only_along_the_input_channels(shape: tuple[int, ...]) -> None:
    weight = RNG.normal(size=shape)
    for made, asked in product(range(len(shape)), (1,)):
        sparse = pruned(weight, made) if shape[made] > 1 else weight
        assert is_two_of_four(sparse, asked) is (made == 1), made


def test_one_weight_too_many() -> None:
    weight = pruned(RNG.normal(size=(8, 16, 3, 3)), 1)
    assert is_two_of_four(weight, 1)
    out, group, row, column = 5, 2, 1, 2
    full = weight.copy()
    full[out, 4 * group : 4 * group + 4, row, column] = [1, 2, 3, 0]
    assert not is_two_of_four(full, 1)
    full[out, 4 * group, row, column] = 0
    assert is_two_of_four(full, 1)


def test_groups_count_from_the_first_channel() -> None:
    """Channels 2 to 5 are all there: two in the first group of four, two in the second."""
    weight = np.zeros((1, 8, 1, 1))
    weight[0, 2:6] = 1
    assert is_two_of_four(weight, 1)
    assert not is_two_of_four(np.roll(weight, -2, 1), 1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 3, 1, 1), False), ((4, 2, 1, 1), True), ((4, 6, 1, 1), False), ((0, 4), False)],
)
def test_widths_that_are_no_multiple_of_four(shape: tuple[int, ...], expected: bool) -> None:
    assert is_two_of_four(np.ones(shape), 1) is expected


def test_codes_and_half_precision() -> None:
    codes = (pruned(RNG.normal(size=(8, 8, 1, 1)), 1) * 40).astype(np.int8)
    assert is_two_of_four(codes, 1)
    assert is_two_of_four(codes.astype(np.float16), 1)


@pytest.mark.parametrize("target", ["jetson-int8", "jetson-fp16"])
def test_emitted_files(target: str, tmp_path: Path) -> None:
    """Convolution and linear layer, sparse and not, in either file."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8)
    ).eval()  # fmt: skip
    with torch.no_grad():
        for layer in (net[2], net[6]):
            layer.weight.copy_(torch.from_numpy(pruned(layer.weight.numpy(), 1)))
    x = torch.randn(4, 3, 12, 12)
    artifact = fxc.compile(net, target, example_inputs=(x,), calibration_data=[x], equalize=False)
    for name in ("model.onnx", "model.typed.onnx"):
        found = {key.split("/")[0]: sparse for key, sparse in sparse_layers(artifact.path / name).items()}
        assert found == {"0": False, "2": True, "6": True, "8": False}, name
