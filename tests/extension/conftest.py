"""The package of a stranger, importable but not installed: no entry point leads to it."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).with_name("acme") / "src"))

from acme_fxc.ops import AcmeNet


@pytest.fixture(scope="session")
def net() -> AcmeNet:
    """The stranger's net; do not change it."""
    torch.manual_seed(0)
    return AcmeNet().eval()


@pytest.fixture
def image() -> Tensor:
    """A batch of two images."""
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
