"""Pools over codes whose zero point is not 0, with padding that counts or that is wider than ONNX Runtime takes.

OpenVINO moves an average pool in front of the dequantizer and counts the padding as codes of 0: MaxViT-T lost 7 dB.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.backends.int8 import requantized
from tests.backends.test_rooms import ROOMS, program_of
from tests.conformance.case import Fn

IMAGE = 2 * torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(5)) + 1


class Pooled(nn.Module):
    """quantize -> avg_pool2d -> quantize, with scales that are powers of two"""

    def __init__(self, zero_point: int, ceil_mode: bool, padding: int = 1) -> None:
        super().__init__()
        self.zero_point = zero_point
        self.pool = nn.AvgPool2d(3, 2, padding, ceil_mode=ceil_mode)

    def forward(self, x: Tensor) -> Tensor:
        return requantized(self.pool(requantized(x, 2**-4, self.zero_point)), 2**-4, 128)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("zero_point", [0, 100])
def test_counted_padding_is_zero_and_not_code_zero(
    room: str, ceil_mode: bool, zero_point: int, tmp_path: Path
) -> None:
    emit, load, target = ROOMS[room]
    program = program_of(Pooled(zero_point, ceil_mode), IMAGE)
    emitted = emit(program, target, tmp_path)
    (found,) = load(tmp_path / emitted.model, target, threads=1)([IMAGE.numpy()])
    expected = program.run_flat(IMAGE)[0].numpy()
    assert found.shape == expected.shape
    # One code where a mean of nine codes lies between two of them.
    assert np.abs(found - expected).max() <= 2**-4


@pytest.mark.parametrize("room", ROOMS)
def test_no_maximum_is_made_of_the_overhang_of_a_dilated_window(room: str, tmp_path: Path) -> None:
    """Every value is negative, so that padding with zeros would win."""
    emit, load, target = ROOMS[room]
    pool = nn.MaxPool2d(2, 3, 1, dilation=2, ceil_mode=True)
    image = -IMAGE.abs()[..., :10, :10] - 0.5
    program = program_of(Fn(lambda x: requantized(pool(requantized(x, 2**-4, 200)), 2**-4, 200)), image)
    emitted = emit(program, target, tmp_path)
    (found,) = load(tmp_path / emitted.model, target, threads=1)([image.numpy()])
    np.testing.assert_array_equal(found, program.run_flat(image)[0].numpy())
    assert found.max() < 0
