"""What the benchmarks run on: a program of ResNet-50's size, made once and only when one of them really runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model

import fxc
from fxc.compiler.program import Program

RESOLUTION = 64
"""A graph pass does not look at pixels; whatever runs the network would only get slower by more of them."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Equal for all, and no second OpenMP team beside a runtime's own."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def resnet50() -> nn.Module:
    """Seeded random weights: speed does not depend on them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_model("resnet50", weights=None).eval()


@pytest.fixture(scope="session")
def image() -> torch.Tensor:
    return torch.randn(1, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def captured(resnet50: nn.Module, image: torch.Tensor) -> Program:
    return fxc.capture(resnet50, (image,))
