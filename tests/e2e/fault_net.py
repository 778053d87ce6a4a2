"""Two small nets of one shape, told apart by their weights; a file that ``fxc compile`` can load."""

import torch
from torch import nn

SHAPE = ("--input-shape", "1,3,16,16")


def old() -> nn.Module:
    """The net of the bundle that is there already."""
    return _net(0)


def new() -> nn.Module:
    """The net of the bundle that is to replace it."""
    return _net(1)


def words(name: str, output: object, *more: str, target: str = "ort-int8") -> tuple[str, ...]:
    """The words of ``fxc compile`` for one of the nets."""
    return ("compile", f"{__file__}:{name}", "-t", target, *SHAPE, "-o", str(output), *more)


def _net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4 * 12 * 12, 10)).eval()
