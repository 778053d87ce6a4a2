"""quantize and dequantize alone, in Apple's runtime: against NumPy's formula and against fxc's operators, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxc.compiler.capture import capture
from fxc.compiler.qdq import DEQUANTIZE_CHANNEL, DEQUANTIZE_TENSOR, QUANTIZE_TENSOR
from fxc.passes.canonicalize import Canonicalize
from tests.backends.coreai.together import Case, together

pytestmark = [pytest.mark.usefixtures("core_ai"), pytest.mark.slow]

CODES = [
    *(
        (scale, zero, torch.int8)
        for scale in (0.0371, 0.1, 2**-7, 3.0e-4, 11.5)
        for zero in (0, 7, -128, 127)
    ),
    *(
        (scale, zero, torch.uint8)
        for scale in (0.0371, 0.1, 2**-7, 3.0e-4, 11.5)
        for zero in (0, 3, 128, 255)
    ),
]
RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255)}


def numbers(scales: list[float]) -> Tensor:
    """Ties and their neighbours of every scale, both ends and beyond, and noise."""
    steps = torch.arange(-600, 601) * 0.5
    near = [steps * s for s in scales]
    near += [torch.nextafter(n, torch.tensor(side)) for n in near for side in (-1e38, 1e38)]
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 8
    ends = torch.tensor([0.0, -0.0, 1e30, -1e30, 1e-30, 3.4e38, -3.4e38])
    return torch.cat([*near, noise, ends])[None]


class Pairs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = []
        for scale, zero, dtype in CODES:
            codes = QUANTIZE_TENSOR(x, scale, zero, *RANGES[dtype], dtype)
            found += [codes, DEQUANTIZE_TENSOR(codes, scale, zero)]
        return tuple(found)


class PerChannel(nn.Module):
    """A weight as a quantized program holds it."""

    def __init__(self) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(1)
        self.register_buffer(
            "codes", torch.randint(-127, 128, (16, 8, 3, 3), generator=chance).to(torch.int8)
        )
        self.register_buffer("scale", torch.rand(16, generator=chance) * 0.01 + 1e-4)
        self.register_buffer("zero", torch.zeros(16, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        weight = DEQUANTIZE_CHANNEL(self.codes, self.scale, self.zero, 0)
        return weight * x[:, None, None, None]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[list[np.ndarray] | str]:
    x = numbers([scale for scale, _, _ in CODES])
    one = torch.ones(1)
    cases = []
    for module, value in ((Pairs(), x), (PerChannel(), one)):
        program = Canonicalize().apply(capture(module.eval(), (value,))).program
        cases.append(Case(program, [value.numpy()]))
    return together(cases, tmp_path_factory.mktemp("pairs"))


def test_per_tensor(answers: list[list[np.ndarray] | str]) -> None:
    found, x = answers[0], numbers([scale for scale, _, _ in CODES])
    assert not isinstance(found, str), found
    for i, (scale, zero, dtype) in enumerate(CODES):
        low, high = RANGES[dtype]
        codes = np.clip(np.rint(x.numpy() / np.float32(scale)) + zero, low, high)
        floats = (codes - zero).astype(np.float32) * np.float32(scale)
        np.testing.assert_array_equal(found[2 * i], codes)
        np.testing.assert_array_equal(found[2 * i + 1], floats)
        ours = QUANTIZE_TENSOR(x, scale, zero, low, high, dtype)
        np.testing.assert_array_equal(found[2 * i], ours.numpy())
        np.testing.assert_array_equal(found[2 * i + 1], DEQUANTIZE_TENSOR(ours, scale, zero).numpy())
    assert len(np.unique(found[0])) == 256


def test_per_channel(answers: list[list[np.ndarray] | str]) -> None:
    found, module = answers[1], PerChannel()
    assert not isinstance(found, str), found
    wanted = module.codes.numpy().astype(np.float32) * module.scale.numpy()[:, None, None, None]
    np.testing.assert_array_equal(found[0], wanted)
