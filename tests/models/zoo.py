"""The fourteen models that prove the whole chain, random but alive."""

import torch
from torch import nn
from torchvision.models import get_model

from tests.models.images import images
from tests.models.liven import liven
from tests.models.yolo import Yolo

NAMES: tuple[str, ...] = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "densenet121",
    "squeezenet1_1",
    "googlenet",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "yolo",
)
NOT_PURE_CONV: tuple[str, ...] = ("convnext_tiny", "vit_b_16", "swin_t")
PURE_CONV: tuple[str, ...] = tuple(name for name in NAMES if name not in NOT_PURE_CONV)
"""Nets made of conv, batch norm, pooling, plain activations and linear; the others hold layer norms or attention."""


def build(
    name: str, *, resolution: int = 224, seed: int = 0, livened: bool = True
) -> tuple[nn.Module, torch.Tensor]:
    """One of `NAMES` in eval mode and an example image batch [1, 3, resolution, resolution], float32.

    The same arguments give the same weights; the global random state is left as it was.

    Args:
        resolution: square image side; a multiple of 16 for vit_b_16 and of 32 for yolo, at least 64 for the others.
        livened: False keeps the degenerate start of the model's authors, for tests of the guard itself.

    Raises:
        ValueError: an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"no model {name!r} in the zoo; there are {', '.join(NAMES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _fresh(name, resolution).eval()
    if livened:
        liven(model, _batches(resolution, seed), seed)
    return model, images(1, resolution, seed=2 * seed + 1)


def _fresh(name: str, resolution: int) -> nn.Module:
    match name:
        case "yolo":
            return Yolo(resolution)
        case "vit_b_16":
            return get_model(name, weights=None, image_size=resolution)
        case "googlenet":
            return get_model(name, weights=None, aux_logits=False, init_weights=True)
        case _:
            return get_model(name, weights=None)


def _batches(resolution: int, seed: int) -> list[tuple[torch.Tensor, ...]]:
    """Two batches for the batch-norm statistics; small images need more of them, the last maps hold only 2x2 pixels."""
    size = 8 if resolution >= 160 else 16
    data = images(2 * size, resolution, seed=2 * seed)
    return [(data[:size],), (data[size:],)]
