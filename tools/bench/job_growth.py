"""In a child: one compile of a chain of conv, batch norm, ReLU, and torch's own export of it apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import fxc
from fxc.tools.bench.clock import spent
from fxc.tools.bench.path_fxc import TARGET, stages
from fxc.tools.bench.plan import Plan
from fxc.tools.bench.subject import images, measure_norms

_CHANNELS, _RESOLUTION, _IMAGES = 8, 16, 4
_WARM_UP = 10
"""Layers of the chain that is compiled first, so that imports are no part of the time."""


def measure(plan: Plan, folder: Path) -> dict[str, Any]:
    """``plan.model`` is the number of layers.

    Returns:
        Wall seconds: ``"export"`` of torch alone, and ``"stages"`` of the compile, whose capture includes such an export.
    """
    torch.set_num_threads(plan.threads)
    _compiled(_WARM_UP)
    model = chain(int(plan.model))
    with spent() as time:
        torch.export.export(model, (images(2, _RESOLUTION),), strict=False)
    return {"layers": int(plan.model), "export": time.wall, "stages": _compiled(int(plan.model))}


def chain(layers: int) -> nn.Module:
    """``layers`` of conv 3x3, batch norm and ReLU over eight channels, well-conditioned at any depth.

    Kernels are close to the identity, and batch norms shift to the positive side, where ReLU is linear: with independent
    weights a rounding error of the first layer would decide the answer of the hundredth.
    """
    rng = torch.Generator().manual_seed(0)
    parts: list[nn.Module] = []
    for width in (3, *[_CHANNELS] * (layers - 1)):
        conv = nn.Conv2d(width, _CHANNELS, 3, padding=1, bias=False)
        norm = nn.BatchNorm2d(_CHANNELS)
        with torch.no_grad():
            nn.init.dirac_(conv.weight).add_(0.05 * torch.randn(conv.weight.shape, generator=rng))
            norm.bias.fill_(3.0)
        parts += [conv, norm, nn.ReLU()]
    model = nn.Sequential(*parts)
    measure_norms(model, images(_IMAGES, _RESOLUTION), _IMAGES)
    return model


def _compiled(layers: int) -> dict[str, float]:
    data = images(_IMAGES, _RESOLUTION, seed=1)
    model = chain(layers)
    with spent() as time:
        artifact = fxc.compile(model, TARGET, example_inputs=(data[:1],), calibration_data=[data])
    return stages(artifact, time.wall)
