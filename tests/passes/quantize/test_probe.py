"""What a probe records of each channel, against NumPy in float64."""

import numpy as np
import pytest
import torch

from fxc.passes.quantize import probe
from fxc.passes.quantize.probe import channels_of

SHAPES = [((2, 5, 7, 3), 1), ((4, 6, 9), -1), ((4, 6, 9), 1), ((3, 8), 1), ((8,), 0), ((2, 3, 4, 5, 6), 1)]


@pytest.mark.parametrize("block", [1, 64, 1 << 20])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_channels(shape: tuple[int, ...], axis: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_BLOCK", block)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    forms = [x, x.double()]
    if x.dim() == 4:
        forms.append(x.contiguous(memory_format=torch.channels_last))
    wide = np.moveaxis(x.numpy().astype(np.float64), axis, -1).reshape(-1, shape[axis])
    for form in forms:
        found = channels_of(form, axis)
        np.testing.assert_array_equal(found.low, wide.min(0))
        np.testing.assert_array_equal(found.high, wide.max(0))
        np.testing.assert_allclose(found.mean, wide.mean(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.square, (wide**2).mean(0), rtol=1e-6)
        assert found.square.dtype == np.float64
