"""Capture, with PyTorch's own export of the same model beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import get_model

import fxc


@pytest.fixture(scope="module", params=["resnet50", "mobilenet_v2", "swin_t"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return get_model(request.param, weights=None).eval()


@pytest.mark.benchmark(group="capture")
def test_capture(benchmark: Any, model: nn.Module, image: torch.Tensor) -> None:
    program = benchmark.pedantic(fxc.capture, (model, (image,)), rounds=3, warmup_rounds=1)
    assert program.dynamic


@pytest.mark.benchmark(group="capture")
def test_peer_torch_export(benchmark: Any, model: nn.Module, image: torch.Tensor) -> None:
    # Widened, as capture does it: with an example of batch one torch makes the batch a constant.
    shapes = ({0: torch.export.Dim("batch")},)
    benchmark.pedantic(
        torch.export.export,
        (model, (image.expand(2, -1, -1, -1),)),
        {"dynamic_shapes": shapes, "strict": False},
        rounds=3,
        warmup_rounds=1,
    )
